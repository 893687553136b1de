"""golden.npz: what is written is read back, bit for bit, and by numpy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.golden import Golden, read_golden, write_golden


def strings(*values: bytes) -> NDArray[Any]:
    """Make a string tensor; numpy's own conversion would drop trailing NULs."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


NUMERIC = [name for name in dtypes.BY_NUMPY_NAME if name != "bfloat16"]
ARRAYS: dict[str, NDArray[Any]] = {
    **{name: np.array([[0, 1], [1, 0], [1, 1]], name) for name in NUMERIC},
    "bfloat16": np.array([[0.5, -3.0], [np.inf, 1e30]], ml_dtypes.bfloat16),
    "not a number": np.array([np.nan, np.inf, -np.inf, -0.0], np.float32),
    "scalar": np.array(2.5, np.float64),
    "scalar bfloat16": np.array(2.5, ml_dtypes.bfloat16),
    "empty": np.zeros((0, 8), np.float32),
    "not contiguous": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "strings": strings(b"", b"a\0", b"\0\0", b"\xff\xfe", "Grüße".encode()).reshape(5, 1),
    "no strings": strings(),
    "scalar string": strings(b"a\0").reshape(()),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    """Every dtype and shape comes back bit for bit, as an input and as an output."""
    array = ARRAYS[name]
    path = tmp_path / "golden.npz"
    write_golden(path, {"serving_default": Golden({"x": array}, {"y": array})})
    golden = read_golden(path)["serving_default"]
    for found in (golden.inputs["x"], golden.outputs["y"]):
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.ravel().tolist() == array.ravel().tolist() or found.tobytes() == array.tobytes()


def test_any_names_survive(tmp_path: Path) -> None:
    """Signatures and aliases of foreign SavedModels may hold slashes, colons and more."""
    goldens = {"a/b:c": Golden({"é/:bytes": np.zeros(1)}, {"": np.ones(1)}), "lengths": Golden({}, {"y": np.ones(1)})}
    write_golden(tmp_path / "g.npz", goldens)
    found = read_golden(tmp_path / "g.npz")
    assert found.keys() == goldens.keys()
    assert list(found["a/b:c"].inputs) == ["é/:bytes"]
    assert list(found["a/b:c"].outputs) == [""]


def test_numpy_alone_reads_it(tmp_path: Path) -> None:
    """The members' names say what they are to anybody with numpy."""
    write_golden(tmp_path / "g.npz", {"serving_default": Golden({"image": np.ones((2, 3))}, {"score": np.ones(2)})})
    with np.load(tmp_path / "g.npz", allow_pickle=False) as archive:
        assert sorted(archive) == ["serving_default/inputs/image", "serving_default/outputs/score"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    """Neither the time nor the order of a dict shows in the file."""
    one, two = np.ones(2), np.zeros(2)
    write_golden(tmp_path / "a.npz", {"s": Golden({"p": one, "q": two}, {}), "t": Golden({"p": one}, {})})
    write_golden(tmp_path / "b.npz", {"t": Golden({"p": one}, {}), "s": Golden({"q": two, "p": one}, {})})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_str_becomes_bytes(tmp_path: Path) -> None:
    """Texts are kept as the bytes that travel."""
    write_golden(tmp_path / "g.npz", {"s": Golden({"x": np.array(["é"])}, {})})
    assert read_golden(tmp_path / "g.npz")["s"].inputs["x"].tolist() == ["é".encode()]


@pytest.mark.parametrize(
    "array", [np.array(["2020-01-01"], "datetime64[D]"), np.array([1, None], object)], ids=["datetime", "object"]
)
def test_what_tensorflow_lacks_is_refused(array: NDArray[Any], tmp_path: Path) -> None:
    """An array without TensorFlow dtype is an error that names signature and alias."""
    with pytest.raises(InvalidArgument, match="serving_default, input when"):
        write_golden(tmp_path / "g.npz", {"serving_default": Golden({"when": array}, {})})


def damaged(path: Path) -> dict[str, bytes]:
    """Make files that are no golden.npz."""
    write_golden(path, {"s": Golden({"x": strings(b"a", b"bc")}, {"y": np.ones(100)})})
    whole = path.read_bytes()

    def saved(**members: Any) -> bytes:
        np.savez(path, **members)
        return path.read_bytes()

    lengths, content = "s/inputs/x:lengths", "s/inputs/x:bytes"
    return {
        "empty": b"",
        "text": b"these are my notes",
        "cut off": whole[: len(whole) // 2],
        "a byte changed": whole[:700] + bytes([whole[700] ^ 1]) + whole[701:],
        "lengths beyond the bytes": saved(**{lengths: np.array([1, 5]), content: np.zeros(3, np.uint8)}),
        "another npz": saved(other=np.zeros(3)),
        "pickled": saved(**{"s/inputs/x": np.array([{}], object)}),
        "bytes missing": saved(**{lengths: np.array([1])}),
        "lone npy": b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }".ljust(117)
        + b"\n"
        + bytes(8),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("empty", "text", "cut off", "a byte changed", "lengths beyond the bytes", "another npz", "pickled"),
        *("bytes missing", "lone npy"),
    ],
)
def test_damage_names_the_file(case: str, tmp_path: Path) -> None:
    """Whatever is wrong with the file, the error says which file it is."""
    path = tmp_path / "golden.npz"
    content = damaged(path)[case]
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"golden\.npz"):
        read_golden(path)


def test_a_missing_file_raises(tmp_path: Path) -> None:
    """Absence is no damage."""
    with pytest.raises(FileNotFoundError):
        read_golden(tmp_path / "golden.npz")

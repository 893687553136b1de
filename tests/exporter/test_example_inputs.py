"""Reference inputs: read from files, fitted to the signature, or drawn from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfbundle_exporter.proof.example_inputs import draw_examples, fit_examples, is_batched, limit_rows, read_examples
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

FLOAT = TensorSpec(dtypes.FLOAT, (None, 2))
STRING = TensorSpec(dtypes.STRING, (None,))


def test_npy_and_npz(tmp_path: Path) -> None:
    """An .npy is an array, an .npz a mapping."""
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    np.savez(tmp_path / "x.npz", a=np.ones(3), b=np.zeros(3))
    assert np.asarray(read_examples(tmp_path / "x.npy")).shape == (3, 2)
    assert set(read_examples(tmp_path / "x.npz")) == {"a", "b"}


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_files_that_are_neither(content: bytes, tmp_path: Path) -> None:
    """Damage and foreign files are errors that name the file."""
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(ExportError, match=r"x\.npy cannot be read as example inputs"):
        read_examples(tmp_path / "x.npy")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    """An array of Python objects is refused with what to save instead."""
    np.save(tmp_path / "x.npy", np.array(["a", None], object), allow_pickle=True)
    with pytest.raises(ExportError, match="fixed-width bytes or str"):
        read_examples(tmp_path / "x.npy")


def test_a_missing_file(tmp_path: Path) -> None:
    """The path is named."""
    with pytest.raises(ExportError, match="no such file"):
        read_examples(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "given",
    [np.ones((4, 2)), [[1.0, 1.0]] * 4, {"x": np.ones((4, 2))}, {"layer": np.ones((4, 2))}, [np.ones((4, 2), int)]],
    ids=["array", "list", "public name", "layer's name", "integers in a list"],
)
def test_forms_of_one_input(given: Any) -> None:
    """All become float32 rows under the public name."""
    fitted = fit_examples(given, {"x": FLOAT}, ["layer"])
    np.testing.assert_array_equal(fitted["x"], np.ones((4, 2), np.float32))
    assert fitted["x"].dtype == np.float32


def test_an_unnamed_npz_member_is_the_one_input() -> None:
    """np.savez calls it arr_0."""
    assert fit_examples({"arr_0": np.ones((4, 2))}, {"x": FLOAT}, ["x"]).keys() == {"x"}


def test_texts_become_bytes() -> None:
    """Str and bytes are both the bytes that travel."""
    for given in (np.array(["é", "b"]), np.array(["é".encode(), b"b"]), ["é", "b"]):
        assert fit_examples(given, {"x": STRING}, ["x"])["x"].tolist() == ["é".encode(), b"b", "é".encode()]


def test_bfloat16_takes_floats() -> None:
    """A dtype that numpy has no casting rule for is no reason to refuse floats."""
    spec = TensorSpec(dtypes.BFLOAT16, (None,))
    assert fit_examples(np.ones(3), {"x": spec}, ["x"])["x"].dtype.name == "bfloat16"


def test_rows_are_limited_and_repeated() -> None:
    """At least three rows, at most 256, and no more than 32 MiB of them."""
    assert limit_rows({"x": np.arange(1)})["x"].tolist() == [0, 0, 0]
    assert limit_rows({"x": np.arange(2)})["x"].tolist() == [0, 1, 0]
    assert limit_rows({"x": np.arange(1000)})["x"].tolist() == list(range(256))
    assert limit_rows({"x": np.zeros((100, 1 << 20), np.float32)})["x"].shape[0] == 8


SPECS = {
    "image": TensorSpec(dtypes.FLOAT, (None, None, None, 3)),
    "steps": TensorSpec(dtypes.DOUBLE, (None, None, 2)),
    "index": TensorSpec(dtypes.INT64, (None, 4)),
    "flag": TensorSpec(dtypes.BOOL, (None,)),
    "half": TensorSpec(dtypes.BFLOAT16, (None, 2)),
    "text": TensorSpec(dtypes.STRING, (None, 2)),
}


def test_drawn_inputs_fit_and_repeat() -> None:
    """Drawn rows have the signature's dtypes and shapes, and come again for the same seed."""
    drawn = draw_examples(SPECS, seed=3)
    again, other = draw_examples(SPECS, seed=3), draw_examples(SPECS, seed=4)
    assert fit_examples(drawn, SPECS, list(SPECS)).keys() == SPECS.keys()
    assert {array.shape[0] for array in drawn.values()} == {33}
    for name, array in drawn.items():
        assert dtypes.of_numpy(array.dtype) is SPECS[name].dtype
        np.testing.assert_array_equal(array, again[name])
    assert (drawn["image"] != other["image"]).any()


def test_drawn_inputs_have_edges() -> None:
    """Zeros, ones, negative and large rows take turns with random ones; integers are indices that every table has."""
    drawn = draw_examples(SPECS, seed=0)
    assert [float(row.max()) for row in drawn["image"][:8:2]] == [0, 1, -1, 10]
    assert len(np.unique(drawn["image"][1])) > 1000
    assert set(np.unique(drawn["index"])) == {0, 1}
    assert b"" in drawn["text"]


def test_few_large_rows_are_no_mere_edges() -> None:
    """Where but three rows fit, one of them is random, and no more than these three are ever made."""
    drawn = draw_examples({"x": TensorSpec(dtypes.FLOAT, (None, 2000, 2000, 3))}, seed=0)["x"]
    assert drawn.shape[0] == 3
    assert np.std(drawn[1]) > 0.5


def test_an_unknown_rank_gets_a_number_a_row() -> None:
    """Where the signature says nothing of the shape, nothing but the number of rows is sure."""
    spec = TensorSpec(dtypes.FLOAT, None)
    assert is_batched({"x": spec})
    assert draw_examples({"x": spec}, seed=0)["x"].shape == (33,)
    assert fit_examples(np.ones((4, 2)), {"x": spec}, ["x"])["x"].shape == (4, 2)


BOUND = {"x": TensorSpec(dtypes.FLOAT, (8, 2)), "rate": TensorSpec(dtypes.FLOAT, ()), "text": STRING}


def test_a_signature_that_is_bound_to_a_number_of_rows() -> None:
    """It gets exactly these, drawn or given, and a number alone where an input has no dimension."""
    assert not is_batched(BOUND)
    drawn = draw_examples(BOUND, seed=0)
    assert {name: array.shape for name, array in drawn.items()} == {"x": (8, 2), "rate": (), "text": (8,)}
    given = {"x": np.ones((3, 2)), "rate": 0.5, "text": ["a", "b", "c"]}
    fitted = fit_examples(given, BOUND, list(BOUND))
    assert {name: array.shape for name, array in fitted.items()} == {"x": (8, 2), "rate": (), "text": (8,)}
    assert fitted["text"].tolist() == [b"a", b"b", b"c", b"a", b"b", b"c", b"a", b"b"]
    assert fit_examples({**given, "x": np.ones((20, 2))}, BOUND, list(BOUND))["x"].shape == (8, 2)

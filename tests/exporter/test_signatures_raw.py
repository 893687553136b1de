"""The raw signature against the plain one on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.small_source import Arrays, Version, source, spec
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.raw import Raw
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError

#: Everything that has a numpy form.
NUMERIC = sorted(dtypes.BY_NUMPY_NAME)
INPUTS = {**{f"in_{name}": spec(name, 2, 2) for name in NUMERIC}, "text": spec("string"), "scalar": spec("float32")}


def rows() -> Arrays:
    """Draw rows of each dtype from random bits, so that a wrong byte order or width shows."""
    drawn: dict[str, Any] = {"scalar": np.array([1, 2, 3], "f4"), "text": np.array([b"a", b"", b"c"], object)}
    for name in NUMERIC:
        dtype = dtypes.BY_NUMPY_NAME[name].to_numpy()
        levels = np.arange(1, 13).reshape(3, 2, 2) * (1 if dtype.itemsize == 1 else 77)
        drawn[f"in_{name}"] = (levels % 2).astype(dtype) if name == "bool" else levels.astype(dtype)
    return {name: drawn[name] for name in INPUTS}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A model that gives its inputs back, one of each dtype."""
    import tensorflow as tf

    model = source(INPUTS, tuple(f"out_{name}" for name in INPUTS), lambda *tensors: list(map(tf.identity, tensors)))
    return Version(tmp_path_factory.mktemp("raw") / "1", model, SignatureSettings(ready=(Raw(),)))


def test_every_dtype_survives(version: Version) -> None:
    """A row of bytes reaches the model as if it had been sent as a tensor; strings are sent as they are."""
    inputs = version.examples("raw", rows())
    assert set(inputs) == {"text", *(f"{name}_bytes" for name in INPUTS if name != "text")}
    plain = version.ask("serving_default", rows())
    raw = version.ask("raw", inputs)
    for name, expected in plain.items():
        np.testing.assert_array_equal(raw[name], expected)
        assert raw[name].dtype == expected.dtype


def test_the_bytes_are_little_endian(version: Version) -> None:
    """What a client on any machine has to send for 1.0, 2.0, 3.0."""
    found = version.examples("raw", rows())["scalar_bytes"]
    assert found.tolist() == [b"\0\0\x80\x3f", b"\0\0\0\x40", b"\0\0\x40\x40"]


@pytest.mark.parametrize("lengths", [[15], [8, 8], [32], [0], [3]])
def test_wrong_lengths(version: Version, lengths: list[int]) -> None:
    """Bytes that are not one row each are refused in words, also where two halves would make a whole."""
    import tensorflow as tf

    inputs = {name: array[: len(lengths)] for name, array in version.examples("raw", rows()).items()}
    inputs["in_float32_bytes"] = np.array([b"\0" * length for length in lengths], object)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"in_float32_bytes: each string .* float32 \(2, 2\).*16 by"
    ):
        version.ask("raw", inputs)


def test_sequences_of_any_length(tmp_path: Path) -> None:
    """One axis of a row may be of any size; it is told from the number of bytes."""
    import tensorflow as tf

    model = source({"steps": spec("float32", None, 2)}, ("steps_again",), tf.identity)
    version = Version(tmp_path / "1", model, SignatureSettings(ready=(Raw(),)))
    for length in (1, 4):
        steps = np.random.default_rng(0).normal(size=(3, length, 2)).astype("f4")
        found = version.ask("raw", version.examples("raw", {"steps": steps}))
        np.testing.assert_array_equal(found["steps_again"], steps)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a multiple of 8 bytes, as many in each"):
        version.ask("raw", {"steps_bytes": np.array([b"\0" * 8, b"\0" * 16], object)})


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"text": spec("string")}, "has no numeric input"),
        ({"x": spec("float32", None, None)}, "input 'x' is float32 (?, ?, ?); the shape of a row can be told"),
        ({"x": spec("float32"), "x_bytes": spec("string")}, "would have two inputs 'x_bytes'"),
    ],
)
def test_what_does_not_fit(inputs: Any, expected: str) -> None:
    """Inputs that cannot be told from bytes are named."""
    with pytest.raises(ExportError) as caught:
        build_endpoints(source(inputs, ("y",), lambda *tensors: tensors[0]), SignatureSettings(ready=(Raw(),)))
    assert expected in str(caught.value)

"""Predict bodies as the client writes them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.serving.apis.arrays import STRINGS, WITH_JSON_FORM, WITHOUT_JSON_FORM, array_of, same_bits
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import InvalidArgument, Unimplemented
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_request import read_inputs, write_inputs
from tfbundle_serving.apis.signatures import Signature, TensorSpec


def signature(**inputs: DType) -> Signature:
    """Make a signature with inputs of these dtypes."""
    return Signature({name: TensorSpec(dtype, None) for name, dtype in inputs.items()}, {})


def there_and_back(array: NDArray[Any], dtype: DType, *, name: str = "x", rows: bool = False) -> NDArray[Any]:
    """Write an array as the client does and read it as the server does."""
    made = signature(**{name: dtype})
    inputs, was_rows = read_inputs(parse(write_inputs({name: array}, made, rows=rows)), made, "")
    assert was_rows == rows
    return inputs[name]


@pytest.mark.parametrize("dtype", WITH_JSON_FORM, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (2, 1, 3), (0,), (3, 0)], ids=str)
@pytest.mark.parametrize("name", ["x", "x_bytes"])
def test_every_bit_arrives(dtype: DType, shape: tuple[int, ...], name: str) -> None:
    """Every dtype with a JSON form and every shape that JSON has arrives unchanged, extremes and infinities too."""
    array = array_of(dtype, shape)
    assert same_bits(there_and_back(array, dtype, name=name), array)
    if shape and shape[0]:
        assert same_bits(there_and_back(array, dtype, name=name, rows=True), array)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=50))
def test_any_float32_arrives(bits: list[int]) -> None:
    """Any float32 arrives as the same float32; a NaN arrives as a NaN."""
    array = np.array(bits, np.uint32).view(np.float32)
    np.testing.assert_array_equal(there_and_back(array, dtypes.FLOAT), array)


@given(st.lists(st.floats(), max_size=50))
def test_any_double_arrives(values: list[float]) -> None:
    """Any double arrives as the same double."""
    np.testing.assert_array_equal(there_and_back(np.array(values), dtypes.DOUBLE), np.array(values))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_float32_that_rounds_twice(sign: int) -> None:
    """The one float32 whose shortest text leads a reader of doubles to its neighbour is written with more digits."""
    value = np.uint32(0x15AE43FD).view(np.float32) * np.float32(sign)
    assert np.float32(float(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))) != value, (
        "the shortest text is enough, and the exception needless"
    )
    array = np.array([value, 1.5, np.nan], np.float32)
    for variant in (array, array[:2], array[0]):
        np.testing.assert_array_equal(there_and_back(np.asarray(variant), dtypes.FLOAT), variant)


def test_the_forms() -> None:
    """Columns go by name; rows of one input are bare, of several objects; the signature's name comes first."""
    a, b = np.array([[1, 2], [3, 4]]), np.array([True, False])
    assert write_inputs({"a": a}, None) == b'{"inputs":{"a":[[1,2],[3,4]]}}'
    assert write_inputs({"a": a, "b": b}, None) == b'{"inputs":{"a":[[1,2],[3,4]],"b":[true,false]}}'
    assert write_inputs({"a": a}, None, rows=True) == b'{"instances":[[1,2],[3,4]]}'
    assert write_inputs({"a": a, "b": b}, None, rows=True) == (
        b'{"instances":[{"a":[1,2],"b":true},{"a":[3,4],"b":false}]}'
    )
    assert (
        write_inputs({"b": b}, None, signature_name="embed")
        == b'{"signature_name":"embed","inputs":{"b":[true,false]}}'
    )


def test_several_rows_arrive() -> None:
    """Rows of several inputs with NaN, strings and scalars arrive as they were."""
    inputs: dict[str, NDArray[Any]] = {
        "f": np.array([[1.5, np.nan], [-np.inf, 0.1]], np.float32),
        "d": np.array([0.1, np.inf]),
        "i": np.array([1, -1], np.int8),
        "s": np.array([b"\xff", "é"], object),
    }
    made = signature(f=dtypes.FLOAT, d=dtypes.DOUBLE, i=dtypes.INT8, s=dtypes.STRING)
    arrays, was_rows = read_inputs(parse(write_inputs(inputs, made, rows=True)), made, "")
    assert was_rows
    np.testing.assert_array_equal(arrays["f"], inputs["f"])
    np.testing.assert_array_equal(arrays["d"], inputs["d"])
    assert same_bits(arrays["i"], inputs["i"])
    assert arrays["s"].tolist() == [b"\xff", "é".encode()]


def test_strings() -> None:
    """Text is text; what is not UTF-8, or whose input's name ends in _bytes, is base64."""
    body = json.loads(write_inputs({"x": np.array(STRINGS, object), "y_bytes": np.array(["hi"])}, None))
    assert body["inputs"]["y_bytes"] == [{"b64": "aGk="}]
    assert body["inputs"]["x"][1:4] == ["plain", "Grüße", {"b64": "AP+AIG5vdCBVVEYtOA=="}]


def test_finite_bodies_are_strict_json() -> None:
    """Without NaN and Infinity any JSON parser reads the body; with them they are the bare words the server knows."""
    array = np.array([1.0, 1e30, -0.0], np.float32)
    assert json.loads(write_inputs({"x": array}, None)) == {"inputs": {"x": [1.0, 1e30, -0.0]}}
    odd = np.array([[np.nan, 1.0], [np.inf, -np.inf]], np.float32)
    assert write_inputs({"x": odd}, None) == b'{"inputs":{"x":[[NaN,1.0],[Infinity,-Infinity]]}}'


@pytest.mark.parametrize("layout", ["strided", "Fortran", "transposed", "big-endian", "read-only", "broadcast"])
@pytest.mark.parametrize("dtype", [dtypes.FLOAT, dtypes.INT32, dtypes.STRING], ids=lambda dtype: dtype.name)
def test_layouts_of_memory_do_not_matter(layout: str, dtype: DType) -> None:
    """Arrays that are not contiguous or not native are written as what they hold."""
    array = array_of(dtype, (4, 6))
    variants: dict[str, NDArray[Any]] = {
        "strided": array[::2, ::-1],
        "Fortran": np.asfortranarray(array),
        "transposed": array.T,
        "big-endian": array.astype(array.dtype.newbyteorder(">")),
        "read-only": array.copy(),
        "broadcast": np.broadcast_to(array[0], (3, 6)),
    }
    variants["read-only"].setflags(write=False)
    expected = variants[layout].astype(dtype.to_numpy(), order="C")
    assert same_bits(there_and_back(variants[layout], dtype), expected)


@pytest.mark.parametrize("dtype", WITHOUT_JSON_FORM, ids=lambda dtype: dtype.name)
def test_dtypes_without_json_form_are_refused(dtype: DType) -> None:
    """A dtype that REST cannot carry is refused before sending, whether the array or the signature has it."""
    for array, made in (
        (array_of(dtype), None),
        (array_of(dtype), signature(x=dtype)),
        (np.zeros(3, np.float32), signature(x=dtype)),
    ):
        with pytest.raises(Unimplemented, match=f"input x is of dtype {dtype.numpy_name}, .* use gRPC") as caught:
            write_inputs({"x": array}, made)
        assert caught.value.attempts == 0


def test_shapes_without_json_form_are_refused() -> None:
    """JSON cannot say how wide the rows would be if there were any."""
    with pytest.raises(Unimplemented, match=r"input x has the shape \(0, 784\), .* use gRPC"):
        write_inputs({"x": np.empty((0, 784), np.float32)}, None)


@pytest.mark.parametrize(
    "inputs",
    [
        {"a": np.zeros(2), "b": np.zeros(3)},
        {"a": np.zeros(()), "b": np.zeros(3)},
        {"a": np.zeros(())},
        {"a": np.zeros(0), "b": np.zeros(0)},
    ],
)
def test_rows_need_equal_batches(inputs: dict[str, NDArray[Any]]) -> None:
    """Inputs that form no rows are named with their shapes."""
    with pytest.raises(InvalidArgument, match=r"'instances' needs the same number of rows .* got a \("):
        write_inputs(inputs, None, rows=True)


def test_objects_that_are_no_strings_are_refused() -> None:
    """An object array of something else is refused with the input's name."""
    with pytest.raises(InvalidArgument, match="x: a string tensor takes bytes or str, got int"):
        write_inputs({"x": np.array(["a", 1], object)}, None)


def test_the_body_is_what_orjson_would_write() -> None:
    """Around a plain array there is nothing but the names."""
    array = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    bare = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    assert write_inputs({"x": array}, None) == b'{"inputs":{"x":' + bare + b"}}"

"""Replies of the REST API: written by the server, read by the client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.serving.apis.arrays import STRINGS, WITH_JSON_FORM, WITHOUT_JSON_FORM, array_of, same_bits
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.json_pieces import MIN_BYTES, read_single_output
from tfbundle_serving.apis.json_reply import read_error, read_outputs, write_error, write_json, write_outputs
from tfbundle_serving.apis.signatures import Shape, Signature, TensorSpec

FLOAT = dtypes.FLOAT


def signature(shape: Shape = None, **outputs: DType) -> Signature:
    """Make a signature with outputs of these dtypes, all of one shape."""
    return Signature({}, {name: TensorSpec(dtype, shape) for name, dtype in outputs.items()})


def strings(*values: bytes) -> NDArray[Any]:
    """Make an array of strings."""
    return np.array(values, object)


BODIES: dict[str, tuple[dict[str, NDArray[Any]], bool, bytes]] = {
    "one output, rows": ({"y": np.array([2.5, 3.0], np.float32)}, True, b'{"predictions":[2.5,3.0]}'),
    "one output, columns": ({"y": np.array([[2.5], [3]], np.float32)}, False, b'{"outputs":[[2.5],[3.0]]}'),
    "one scalar": ({"y": np.array(2.5, np.float32)}, False, b'{"outputs":2.5}'),
    "one double scalar": ({"y": np.array(np.nan)}, False, b'{"outputs":NaN}'),
    "one string scalar": ({"y": np.array(b"hi", object)}, False, b'{"outputs":"hi"}'),
    "one bool scalar": ({"y": np.array(True)}, False, b'{"outputs":true}'),
    "several, rows": (
        {"a": np.array([1, 2]), "b": np.array([[0.5], [1]], np.float32), "c": strings(b"x", b"y")},
        True,
        b'{"predictions":[{"a":1,"b":[0.5],"c":"x"},{"a":2,"b":[1.0],"c":"y"}]}',
    ),
    "several, columns": (
        {"a": np.array([1, 2]), "b": np.array(0.5, np.float32)},
        False,
        b'{"outputs":{"a":[1,2],"b":0.5}}',
    ),
    "no rows": ({"y": np.empty((0, 3), np.float32)}, True, b'{"predictions":[]}'),
    "no rows, several": ({"a": np.empty(0), "b": np.empty((0, 2))}, True, b'{"predictions":[]}'),
    "rows of nothing": ({"y": np.empty((2, 0), np.int32)}, False, b'{"outputs":[[],[]]}'),
    "not finite": (
        {"y": np.array([[np.nan, 1], [np.inf, -np.inf]], np.float32)},
        True,
        b'{"predictions":[[NaN,1.0],[Infinity,-Infinity]]}',
    ),
    "not finite, several rows": (
        {"a": np.array([0.1, np.nan], np.float32), "b": np.array([[1.5], [np.inf]])},
        True,
        b'{"predictions":[{"a":0.1,"b":[1.5]},{"a":NaN,"b":[Infinity]}]}',
    ),
    "bools": ({"y": np.array([True, False])}, True, b'{"predictions":[true,false]}'),
    "integers": (
        {"y": np.array([2**64 - 1, 0], np.uint64)},
        False,
        b'{"outputs":[18446744073709551615,0]}',
    ),
    "base64 by name": ({"y_bytes": strings(b"hi", b"\xff")}, True, b'{"predictions":[{"b64":"aGk="},{"b64":"/w=="}]}'),
    "text": ({"y": strings(b'q"\\\n\x01', "é".encode())}, True, '{"predictions":["q\\"\\\\\\n\\u0001","é"]}'.encode()),
    "text that is not UTF-8": ({"y": strings(b'\xff"', b"ok")}, True, b'{"predictions":["\xff\\"","ok"]}'),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies(case: str) -> None:
    """Values and structure are TensorFlow Serving's; white space is left out."""
    outputs, rows, body = BODIES[case]
    assert write_outputs(outputs, rows=rows) == body


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, b"0.1"), (1 / 3, b"0.33333334"), (999999.0, b"999999.0"), (16777216.0, b"16777216.0"), (-0.0, b"-0.0")],
)
def test_floats_are_short_and_stay_floats(value: float, text: bytes) -> None:
    """A float32 has the fewest digits that bring it back, and a whole one keeps its fraction."""
    assert write_outputs({"y": np.array([value], np.float32)}, rows=True) == b'{"predictions":[%b]}' % text


REFUSED: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "no outputs": ({}, "Cannot convert empty tensor map to JSON"),
    "a scalar in rows": ({"y": np.array(1.0)}, "Tensor name: y has no shape information "),
    "uneven rows": (
        {"a": np.zeros(2), "b": np.zeros(3)},
        "Tensor name: b has inconsistent batch size: 3 expecting: 2",
    ),
    **{
        dtype.name: ({"y": array_of(dtype)}, f"Failed to write JSON value for tensor type: {dtype.name}")
        for dtype in WITHOUT_JSON_FORM
    },
}


@pytest.mark.parametrize("case", REFUSED)
def test_outputs_that_have_no_json_form(case: str) -> None:
    """What TensorFlow Serving cannot write is refused in its words."""
    outputs, text = REFUSED[case]
    with pytest.raises(InvalidArgument) as caught:
        write_outputs(outputs, rows=True)
    assert caught.value.message == text


@pytest.mark.parametrize("dtype", WITH_JSON_FORM, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (6,), (2, 3), (3, 0), (0,), (0, 4)], ids=str)
@pytest.mark.parametrize("rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize("suffix", ["", "_bytes"])
def test_every_bit_arrives(dtype: DType, shape: tuple[int, ...], rows: bool, suffix: str) -> None:
    """One output or two, in rows or columns: the client has what the server had, in the signature's order."""
    array = array_of(dtype, shape)
    if rows and not shape:
        return
    one, two = f"y{suffix}", f"a{suffix}"
    spec: Shape = (None, *shape[1:]) if shape else ()
    read = read_outputs(write_outputs({one: array}, rows=rows), signature(spec, **{one: dtype}))
    assert same_bits(read[one], array)
    both = write_outputs({two: array, one: array}, rows=rows)
    if rows and shape[0] == 0:
        return  # rows that are not there name nothing
    read = read_outputs(both, signature(spec, **{one: dtype, two: dtype}))
    assert list(read) == [one, two]
    assert all(same_bits(each, array) for each in read.values())


def test_replies_of_tensorflow_serving_are_read() -> None:
    """The white space that TensorFlow Serving writes, and its way with floats, do not matter."""
    row = b'{\n    "predictions": [[2.5, 3e-05], [9e+06, NaN]\n    ]\n}'
    columns = row.replace(b"predictions", b"outputs").replace(b", ", b",\n            ").replace(b"[", b"[\n        ")
    for body in (row, columns):
        array = read_outputs(body, signature((None, 2), y=FLOAT))["y"]
        np.testing.assert_array_equal(array, np.array([[2.5, 3e-5], [9e6, np.nan]], np.float32))


def test_empty_outputs_have_the_signatures_inner_shape() -> None:
    """[] becomes an array whose rows would have had the signature's shape; what that leaves open is 0."""
    cases: list[tuple[Shape, list[int]]] = [
        ((None, 10), [0, 10]),
        ((None, None, 3), [0, 0, 3]),
        (None, [0]),
        ((None,), [0]),
    ]
    for shape, expected in cases:
        array = read_outputs(b'{"predictions": []}', signature(shape, y=FLOAT))["y"]
        assert list(array.shape) == expected
        assert array.dtype == np.float32
    read = read_outputs(b'{"predictions": []}', signature((None, 2), y=FLOAT, z=dtypes.STRING))
    assert {name: array.shape for name, array in read.items()} == {"y": (0, 2), "z": (0, 2)}


#: So many numbers are a long reply in any dtype.
LONGEST = 120_000


def large(dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make an array whose reply is long enough to be read in pieces."""
    bits = np.random.default_rng(7).integers(0, 256, int(np.prod(shape)) * dtype.to_numpy().itemsize, np.uint8)
    array = bits.view(dtype.to_numpy())
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, array.dtype.type(0.5))
    return array.reshape(shape)


#: Every dtype in one shape, and every shape in the two dtypes that are served most.
LONG_REPLIES = [
    *((dtype, (LONGEST // 2, 2)) for dtype in WITH_JSON_FORM if dtype not in (dtypes.BOOL, dtypes.STRING)),
    *((dtype, shape) for dtype in (FLOAT, dtypes.INT64) for shape in [(LONGEST,), (2, LONGEST // 2), (120, 10, 50, 2)]),
]


@pytest.mark.parametrize(("dtype", "shape"), LONG_REPLIES, ids=lambda value: getattr(value, "name", str(value)))
def test_long_replies_are_read_in_pieces(dtype: DType, shape: tuple[int, ...]) -> None:
    """A long reply of numbers is cut and read in pieces, whatever its shape and white space, to the last bit."""
    array = large(dtype, shape)
    compact = write_outputs({"y": array}, rows=False)
    spaced = compact.replace(b",", b" ,\n  ").replace(b"]", b"\t]\r\n")
    assert len(compact) > MIN_BYTES
    for body in (compact, spaced):
        direct = read_single_output(body, dtype)
        assert direct is not None
        assert same_bits(direct, array)
        assert same_bits(read_outputs(body, signature(y=dtype))["y"], array)


def test_long_replies_with_nan_are_read() -> None:
    """NaN and Infinity in a long reply are read, in pieces as well."""
    array = large(FLOAT, (2000, 50))
    array[::7, 3], array[::11, 4], array[5] = np.nan, -np.inf, np.inf
    body = write_outputs({"y": array}, rows=True)
    np.testing.assert_array_equal(read_single_output(body, FLOAT), array)


LONG = b"[" + b"[1.5, 2.5, 3.5]," * 20_000
DAMAGED: dict[str, tuple[bytes, str]] = {
    "ragged": (b'{"outputs":' + LONG + b"[1.5, 2.5]]}", "unexpected size: 2 at level: 1"),
    "a bool": (b'{"outputs":' + LONG + b"[1.5, 2.5, true]]}", "JSON Value: true Type: True"),
    "a null": (b'{"outputs":' + LONG + b"[1.5, null, 2.5]]}", "JSON Value: null Type: Null"),
    "a string": (b'{"outputs":' + LONG + b'[1.5, "2.5", 2.5]]}', 'JSON Value: "2.5" Type: String'),
    "cut off": (b'{"outputs":' + LONG + b"[1.5, 2.5", "the reply is not JSON: JSON Parse error: Missing a comma"),
    "an object": (b'{"outputs":' + LONG + b"{}]}", "JSON Value: {} found at incorrect level"),
    "too deep": (b'{"outputs":' + LONG + b"[[1.5], [2.5], [3.5]]]}", "unexpected level: 2"),
    "no comma": (b'{"outputs":' + LONG[:-1] + b" [1.5, 2.5, 3.5]]}", "Missing a comma or ']'"),
    "two commas": (b'{"outputs":' + LONG + b",[1.5, 2.5, 3.5]]}", "Invalid value"),
    "too big a number": (b'{"outputs":' + LONG + b"[1.5, 1e999, 3.5]]}", "Number too big"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_long_replies_are_refused(case: str) -> None:
    """What is wrong with a long reply is found and said, as in a short one."""
    body, text = DAMAGED[case]
    with pytest.raises(DecodeError) as caught:
        read_outputs(body, signature(y=FLOAT))
    assert text in str(caught.value)


def test_a_long_reply_with_more_in_it_is_read() -> None:
    """What looks like one long list and is not goes the ordinary way."""
    body = b'{"outputs":' + LONG[:-1] + b'], "more": [1]}'
    assert read_single_output(body, FLOAT) is None
    assert read_outputs(body, signature(y=FLOAT))["y"].shape == (20_000, 3)


WRONG: dict[str, tuple[bytes, dict[str, DType], str]] = {
    "not JSON": (b"<html>", {"y": FLOAT}, "the reply is not JSON: JSON Parse error: Invalid value. at offset: 0"),
    "empty": (b"", {"y": FLOAT}, "the reply is not JSON: JSON Parse error: The document is empty"),
    "another object": (b'{"x": 1}', {"y": FLOAT}, "the reply has neither 'outputs' nor 'predictions'"),
    "wrong dtype": (
        b'{"outputs": ["a"]}',
        {"y": FLOAT},
        'output y is not what the signature says (float32 of any rank): JSON Value: "a" Type: String',
    ),
    "fraction in an integer": (b'{"outputs": [1.5]}', {"y": dtypes.INT64}, "output y is not what the signature says"),
    "a dtype that REST has not": (b'{"outputs": [1.5]}', {"y": dtypes.HALF}, "output y is not what"),
    "missing column": (b'{"outputs": {"a": [1]}}', {"a": FLOAT, "b": FLOAT}, "output b is missing from the reply"),
    "missing in a row": (
        b'{"predictions": [{"a": 1, "b": 2}, {"a": 1}]}',
        {"a": FLOAT, "b": FLOAT},
        "output b is missing from the reply",
    ),
    "no object": (b'{"predictions": [1]}', {"a": FLOAT, "b": FLOAT}, "output a is missing from the reply: 1"),
    "rows that are no list": (b'{"predictions": 1}', {"a": FLOAT, "b": FLOAT}, "output a is missing from the reply: 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_replies_are_refused(case: str) -> None:
    """A reply that is not one of this signature is a DecodeError which names the output."""
    body, outputs, text = WRONG[case]
    with pytest.raises(DecodeError) as caught:
        read_outputs(body, signature(None, **outputs))
    assert text in str(caught.value)


def test_strings_may_come_as_text_or_base64() -> None:
    """A string output is read in both forms, whatever its name, and comes as bytes."""
    body = write_outputs({"y": strings(*STRINGS)}, rows=True)
    assert read_outputs(body, signature(y=dtypes.STRING))["y"].tolist() == STRINGS
    mixed = b'{"predictions": ["hi", {"b64": "/w=="}]}'
    assert read_outputs(mixed, signature(y=dtypes.STRING))["y"].tolist() == [b"hi", b"\xff"]


@pytest.mark.parametrize("message", ["Servable not found for request: Latest(m)", 'q"\n\x01', "é", "raw \udcff bytes"])
def test_errors_go_both_ways(message: str) -> None:
    """An error's text survives, bytes that are not UTF-8 included."""
    assert read_error(write_error(message), "?") == message


@pytest.mark.parametrize("body", [b"", b"<html>504</html>", b"[]", b'{"error": 3}', b'{"error": ""}', b'{"x": 1}'])
def test_bodies_without_an_error_text(body: bytes) -> None:
    """Where a proxy answered, the fallback speaks."""
    assert read_error(body, "HTTP 504") == "HTTP 504"


def test_documents_for_people() -> None:
    """Status and metadata are indented JSON that ends with a line break; raw bytes stay raw."""
    document = {"model_version_status": [{"version": "1", "n": [1, 2.5, None]}], "é": True}
    text = write_json(document)
    assert json.loads(text) == document
    assert text.endswith(b"\n}\n")
    assert b'"error_message": "a\xff"' in write_json({"s": [{"error_message": "a\udcff"}, {"n": 1}]})

"""Predict bodies as the server reads them: every rule and every text of TensorFlow Serving's REST API."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from tests.serving.apis.arrays import same_bits
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ApiError, InvalidArgument, Unimplemented
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_request import read_inputs, signature_name
from tfbundle_serving.apis.signatures import Signature, TensorSpec


def signature(**inputs: dtypes.DType) -> Signature:
    """Make a signature with inputs of these dtypes."""
    return Signature({name: TensorSpec(dtype, None) for name, dtype in inputs.items()}, {})


def read(body: Any, **inputs: dtypes.DType) -> dict[str, NDArray[Any]]:
    """Read a body, given as text or as an object."""
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    arrays, _ = read_inputs(parse(text), signature(**inputs), "")
    return arrays


def failure(body: Any, **inputs: dtypes.DType) -> ApiError:
    """Give the error that a body earns."""
    with pytest.raises(ApiError) as caught:
        read(body, **inputs)
    return caught.value


FLOAT, STRING = dtypes.FLOAT, dtypes.STRING


def test_signature_name() -> None:
    """The signature may be left out and must be a string."""
    assert signature_name(parse(b'{"inputs": 1}')) == ""
    assert signature_name(parse(b'{"signature_name": "embed"}')) == "embed"
    with pytest.raises(InvalidArgument) as caught:
        signature_name(parse(b'{"signature_name": 3}'))
    assert caught.value.message == (
        'JSON Value: {\n    "signature_name": 3\n} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


SHAPES: dict[str, tuple[bytes, list[int]]] = {
    "scalar": (b'{"inputs": 2.5}', []),
    "vector": (b'{"inputs": [1, 2, 3]}', [3]),
    "matrix": (b'{"inputs": [[1, 2], [3, 4], [5, 6]]}', [3, 2]),
    "by name": (b'{"inputs": {"x": [[1, 2]]}}', [1, 2]),
    "rank 4": (b'{"inputs": [[[[1], [2]]]]}', [1, 1, 2, 1]),
    "no rows": (b'{"inputs": []}', [0]),
    "rows of nothing": (b'{"inputs": [[], []]}', [2, 0]),
    "row scalars": (b'{"instances": [1, 2]}', [2]),
    "row lists": (b'{"instances": [[1, 2], [3, 4], [5, 6]]}', [3, 2]),
    "row objects": (b'{"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}', [2, 2]),
    "one row of nothing": (b'{"instances": [[]]}', [1, 0]),
    "specials": (b'{"inputs": [NaN, Inf, -Infinity]}', [3]),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes(case: str) -> None:
    """The nesting gives the shape; rows add the batch dimension; keys beyond the known ones are ignored."""
    body, shape = SHAPES[case]
    document = parse(body[:-1] + b', "other": {"deep": [1]}}')
    arrays, is_rows = read_inputs(document, signature(x=FLOAT), "")
    assert list(arrays["x"].shape) == shape
    assert arrays["x"].dtype == np.float32
    assert is_rows == (b"instances" in body)


@pytest.mark.parametrize("form", ["rows", "columns"])
def test_several_inputs(form: str) -> None:
    """Several inputs come by name, each with its own dtype and shape."""
    body = {
        "rows": {"instances": [{"a": 1, "b": ["x", "y"]}, {"b": ["z", ""], "a": 2}]},
        "columns": {"inputs": {"b": [["x", "y"], ["z", ""]], "a": [1, 2], "c": "ignored"}},
    }[form]
    arrays = read(body, a=dtypes.INT64, b=STRING)
    assert same_bits(arrays["a"], np.array([1, 2]))
    assert same_bits(arrays["b"], np.array([[b"x", b"y"], [b"z", b""]], object))


VALUES: list[tuple[dtypes.DType, Any, Any]] = [
    (dtypes.FLOAT, [0.1, 1, 1e39, -1e39, 1e-50], np.array([0.1, 1, np.inf, -np.inf, 0], np.float32)),
    (dtypes.DOUBLE, [0.1, 1, 1e39, 2**63], np.array([0.1, 1, 1e39, 2.0**63])),
    (dtypes.INT8, [-128, 127], np.array([-128, 127], np.int8)),
    (dtypes.INT16, [-(2**15), 2**15 - 1], np.array([-(2**15), 2**15 - 1], np.int16)),
    (dtypes.INT32, [-(2**31), 2**31 - 1], np.array([-(2**31), 2**31 - 1], np.int32)),
    (dtypes.INT64, [-(2**63), 2**63 - 1], np.array([-(2**63), 2**63 - 1])),
    (dtypes.UINT8, [0, 255], np.array([0, 255], np.uint8)),
    (dtypes.UINT32, [0, 2**32 - 1], np.array([0, 2**32 - 1], np.uint32)),
    (dtypes.UINT64, [0, 2**64 - 1], np.array([0, 2**64 - 1], np.uint64)),
    (dtypes.BOOL, [True, False], np.array([True, False])),
    (dtypes.STRING, ["Grüße", "", {"b64": "AP+A"}], np.array(["Grüße".encode(), b"", b"\x00\xff\x80"], object)),
]


@pytest.mark.parametrize(("dtype", "values", "expected"), VALUES, ids=[each[0].name for each in VALUES])
@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_values_of_each_dtype(dtype: dtypes.DType, values: Any, expected: NDArray[Any], form: str) -> None:
    """Every dtype with a JSON form takes its whole range."""
    assert same_bits(read({form: values}, x=dtype)["x"], expected)


WRONG_VALUES: list[tuple[dtypes.DType, bytes, str, str]] = [
    (dtypes.FLOAT, b'"1.5"', '"1.5"', "String"),
    (dtypes.FLOAT, b"true", "true", "True"),
    (dtypes.FLOAT, b"null", "null", "Null"),
    (dtypes.DOUBLE, b'{"b64": "AA=="}', '{\n    "b64": "AA=="\n}', "Object"),
    (dtypes.INT32, b"1.0", "1.0", "Number"),
    (dtypes.INT32, b"1e3", "1000.0", "Number"),
    (dtypes.INT32, b"2147483648", "2147483648", "Number"),
    (dtypes.INT64, b"9223372036854775808", "9223372036854775808", "Number"),
    (dtypes.INT64, b"NaN", "NaN", "Number"),
    (dtypes.UINT8, b"256", "256", "Number"),
    (dtypes.INT8, b"-129", "-129", "Number"),
    (dtypes.UINT32, b"-1", "-1", "Number"),
    (dtypes.UINT64, b"-1", "-1", "Number"),
    (dtypes.UINT64, b"18446744073709551616", "1.84467441e+19", "Number"),
    (dtypes.BOOL, b"1", "1", "Number"),
    (dtypes.BOOL, b"null", "null", "Null"),
    (dtypes.STRING, b"1", "1", "Number"),
    (dtypes.STRING, b"false", "false", "False"),
]


@pytest.mark.parametrize(
    ("dtype", "value", "shown", "kind"), WRONG_VALUES, ids=[f"{each[0].name} {each[1]!r}" for each in WRONG_VALUES]
)
def test_values_that_do_not_fit(dtype: dtypes.DType, value: bytes, shown: str, kind: str) -> None:
    """Nothing is converted: the element, its JSON type and the expected dtype are named."""
    text = f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype.name}"
    assert failure(b'{"inputs": {"x": [[%b]]}}' % value, x=dtype).message == text
    wrapped = f"Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: {text}"
    good = b'"x"' if dtype.is_string else b"true" if dtype is dtypes.BOOL else b"1"
    if not value.startswith(b"{"):
        assert failure(b'{"instances": [%b, %b]}' % (good, value), x=dtype).message == wrapped


BODIES: dict[str, tuple[bytes, list[str], str]] = {
    "neither key": (b"{}", ["x"], "Missing 'inputs' or 'instances' key"),
    "both keys": (
        b'{"inputs": 1, "instances": [1]}',
        ["x"],
        (
            'JSON Value: {\n    "inputs": 1,\n    "instances": [1]\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist "
        ),
    ),
    "instances no list": (
        b'{"instances": 1}',
        ["x"],
        "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
    ),
    "instances empty": (
        b'{"instances": []}',
        ["x"],
        "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
    ),
    "plain rows for two inputs": (
        b'{"instances": [1]}',
        ["a", "b"],
        (
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        ),
    ),
    "base64 rows for two inputs": (
        b'{"instances": [{"b64": "AA=="}]}',
        ["a", "b"],
        (
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        ),
    ),
    "plain columns for two inputs": (
        b'{"inputs": [1]}',
        ["a", "b"],
        (
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map"
        ),
    ),
    "missing column": (b'{"inputs": {"a": 1}}', ["a", "b"], "Missing named input: b in 'inputs' object."),
    "missing row key": (
        b'{"instances": [{"b": 1, "a": 2}, {"a": 1}]}',
        ["b", "a"],
        "Failed to process element: 1 of 'instances' list. JSON object: {\n    \"a\": 1\n} keys must be equal to: a,b",
    ),
    "unknown row key": (
        b'{"instances": [{"x": 1, "z": 2}]}',
        ["x"],
        (
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z"
        ),
    ),
    "wrong value in a row object": (
        b'{"instances": [{"x": 1}, {"x": "s"}]}',
        ["x"],
        (
            "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "s" Type: String is not of expected type: float'
        ),
    ),
    "list among objects": (
        b'{"instances": [{"x": 1}, 2]}',
        ["x"],
        "Expecting object but got list at item 1 of input list",
    ),
    "base64 among objects": (
        b'{"instances": [{"x": 1}, {"b64": "AA=="}]}',
        ["x"],
        "Expecting object but got list at item 1 of input list",
    ),
    "object among lists": (
        b'{"instances": [1, {"x": 2}]}',
        ["x"],
        "Expecting value/list but got object at item 1 of input list",
    ),
    "rows of different size": (
        b'{"instances": [[1, 2], [3]]}',
        ["x"],
        (
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 1"
        ),
    ),
    "rows of different shape": (
        b'{"instances": [[1, 2], [[3], [4]]]}',
        ["x"],
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [2] but got: [2,1]",
    ),
    "ragged": (
        b'{"inputs": [[1, 2], [3]]}',
        ["x"],
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    "scalar among lists": (
        b'{"inputs": [[1, 2], 3]}',
        ["x"],
        "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    "list among scalars": (b'{"inputs": [1, [2]]}', ["x"], "Encountered list at unexpected level: 1 expected < 1"),
    "ragged inside a row": (
        b'{"instances": [[[1, 2], [3]]]}',
        ["x"],
        (
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2"
        ),
    ),
    "too deep": (
        b'{"inputs": ' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}",
        ["x"],
        "Encountered list nested 5000 levels deep, expected at most 31",
    ),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_do_not_fit(case: str) -> None:
    """Each way of not fitting has TensorFlow Serving's text and is the caller's fault."""
    body, names, text = BODIES[case]
    error = failure(body, **dict.fromkeys(names, FLOAT))
    assert error.message == text
    assert error.http_status == 400


def test_a_signature_without_inputs() -> None:
    """The check for inputs comes before the keys, and names the signature that was asked for."""
    for name, shown in (("", "DEFAULT"), ("embed", "embed")):
        with pytest.raises(InvalidArgument, match=f"^Failed to get input map for signature: {shown}$"):
            read_inputs({}, Signature({}, {}), name)


@pytest.mark.parametrize("dtype", [dtypes.HALF, dtypes.BFLOAT16, dtypes.UINT16, dtypes.COMPLEX64], ids=lambda d: d.name)
def test_dtypes_without_json_form(dtype: dtypes.DType) -> None:
    """Half and its like are unimplemented in columns, and by way of wrapping an invalid argument in rows."""
    error = failure({"inputs": [1.5]}, x=dtype)
    assert isinstance(error, Unimplemented)
    assert error.message == f"Conversion of JSON Value: 1.5 to type: {dtype.name}"
    error = failure({"instances": [2]}, x=dtype)
    assert isinstance(error, InvalidArgument)
    assert error.message == (
        "Failed to process element: 0 of 'instances' list. "
        f"Error: UNIMPLEMENTED: Conversion of JSON Value: 2 to type: {dtype.name}"
    )


@pytest.mark.parametrize("text", ["aGk=", "aGk", " a G\nk = ", "+/+/", ""])
def test_base64_is_read_leniently(text: str) -> None:
    """Padding may be missing and white space is skipped, as absl::Base64Unescape has it."""
    expected = {"+/+/": b"\xfb\xff\xbf", "": b""}.get(text, b"hi")
    assert read({"inputs": {"b64": text}}, x=STRING)["x"].tolist() == expected
    assert read({"instances": [{"b64": text}, "y"]}, x=STRING)["x"].tolist() == [expected, b"y"]


@pytest.mark.parametrize("text", ["a", "aG=", "a=Gk", "-_-_", "aGk==", "é"])
def test_what_is_not_base64(text: str) -> None:
    """Other alphabets, wrong padding and impossible lengths are refused."""
    assert failure({"inputs": {"b64": text}}, x=STRING).message == "Unable to base64 decode"


def test_objects_that_are_not_base64() -> None:
    """An object where a string belongs must have the one key b64 with a string."""
    for value in ({"b64": 1}, {"b64": "AA==", "x": 1}, {}):
        error = failure({"inputs": {"x": [value]}}, x=STRING)
        assert error.message.endswith(" not formatted correctly for base64 data")


def test_an_input_called_b64() -> None:
    """A row {"b64": "..."} is a string, even where the input has that name."""
    assert read({"instances": [{"b64": "aGk="}]}, b64=STRING)["b64"].tolist() == [b"hi"]
    assert read({"instances": [{"b64": ["x"]}]}, b64=STRING)["b64"].tolist() == [[b"x"]]
    error = failure({"instances": [{"b64": ["x"]}, {"b64": "aGk="}]}, b64=STRING)
    assert error.message == "Expecting object but got list at item 1 of input list"


def test_strings_that_are_not_utf8_arrive_as_they_are() -> None:
    """Bytes between quotation marks reach the model unchanged."""
    assert read(b'{"inputs": ["\xff\x80", "\\ud83d\\ude00"]}', x=STRING)["x"].tolist() == [
        b"\xff\x80",
        "\U0001f600".encode(),
    ]


def test_the_first_of_two_keys_counts() -> None:
    """A key that comes twice is read once, and cannot smuggle in a second value."""
    assert read(b'{"instances": [1, 2], "instances": [3]}', x=FLOAT)["x"].tolist() == [1, 2]
    assert read(b'{"inputs": {"x": [1], "x": [2]}}', x=FLOAT)["x"].tolist() == [1]

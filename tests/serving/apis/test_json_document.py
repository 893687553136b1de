"""JSON bodies: what is accepted, what is refused, and TensorFlow Serving's texts and offsets.

The expected texts and offsets were recorded from RapidJSON 1.1.0 with TensorFlow Serving's flags (iterative, NaN and
Inf allowed, stop when done).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import orjson
import pytest

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_dump import MAX_BYTES, decimal, dump

ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "plain": (b'{"a": [1, 2.5, "x", null, true, false, {}]}', {"a": [1, 2.5, "x", None, True, False, {}]}),
    "infinities": (b'{"a": [Inf, -Inf, Infinity, -Infinity]}', {"a": [math.inf, -math.inf, math.inf, -math.inf]}),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "trailing garbage": (b'{"a": 1} and more', {"a": 1}),
    "trailing object": (b'{"a": 1}{"a": 2}', {"a": 1}),
    "a NUL behind the object": (b'{"a": 1}\x00{', {"a": 1}),
    "first duplicate wins": (b'{"instances": [1], "instances": [2]}', {"instances": [1]}),
    "first inner duplicate wins": (b'{"a": {"b": 1, "c": 2, "b": 3}}', {"a": {"b": 1, "c": 2}}),
    "duplicate in a row": (b'{"a": [{"b": 1}, {"b": 2, "b": 3}]}', {"a": [{"b": 1}, {"b": 2}]}),
    "duplicate behind a scalar": (b'{"a": [1, {"b": 2, "b": 3}]}', {"a": [1, {"b": 2}]}),
    "duplicate spelled differently": (b'{"a": 1, "\\u0061": 2}', {"a": 1}),
    "colons in strings": (b'{"a": "x:y", "b": "\\":", "c": [":"]}', {"a": "x:y", "b": '":', "c": [":"]}),
    "not UTF-8": (b'{"a": "\xff\xfe"}', {"a": "\udcff\udcfe"}),
    "lone low surrogate": (b'{"a": "\\udc00"}', {"a": "\udced\udcb0\udc80"}),
    "surrogate pair, not UTF-8 beside it": (b'{"a": "\\ud83d\\ude00\xff"}', {"a": "\U0001f600\udcff"}),
    "escapes": (b'{"a": "\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\xff"}', {"a": '"\\/\b\f\n\r\té\udcff'}),
    "64 bits": (b'{"a": [18446744073709551615, -9223372036854775808]}', {"a": [2**64 - 1, -(2**63)]}),
    "more than 64 bits": (b'{"a": [18446744073709551616, -9223372036854775809]}', {"a": [2.0**64, -(2.0**63)]}),
    "the same beside NaN": (b'{"a": [18446744073709551616, 18446744073709551615], "b": Inf}', None),
    "tiny number": (b'{"a": 1e-400}', {"a": 0.0}),
    "empty containers": (b'{"a": [], "b": {}, "c": [[]], "d": Inf}', {"a": [], "b": {}, "c": [[]], "d": math.inf}),
}

REFUSED: dict[bytes, str] = {
    b"": "JSON Parse error: The document is empty",
    b"  ": "JSON Parse error: The document is empty. at offset: 2",
    b"\xef\xbb\xbf": "JSON Parse error: The document is empty. at offset: 3",
    b"]": "JSON Parse error: The document is empty. at offset: 0",
    b"instances = [1]": "JSON Parse error: Invalid value. at offset: 0",
    b"{": "JSON Parse error: Missing a name for object member. at offset: 1",
    b"{1: 2}": "JSON Parse error: Missing a name for object member. at offset: 1",
    b'{"a":1,}': "JSON Parse error: Missing a name for object member. at offset: 7",
    b'{"a" 1}': "JSON Parse error: Missing a colon after a name of object member. at offset: 5",
    b'{"a":1 "b"': "JSON Parse error: Missing a comma or '}' after an object member. at offset: 7",
    b'{"a":01}': "JSON Parse error: Missing a comma or '}' after an object member. at offset: 6",
    b'{"instances": [1,2}': "JSON Parse error: Missing a comma or ']' after an array element. at offset: 18",
    b'{"a": [1:2]}': "JSON Parse error: Missing a comma or ']' after an array element. at offset: 8",
    b'{"a":[1,]}': "JSON Parse error: Invalid value. at offset: 8",
    b'{"a":}': "JSON Parse error: Invalid value. at offset: 5",
    b'{"a":[tru]}': "JSON Parse error: Invalid value. at offset: 9",
    b'{"a":nan}': "JSON Parse error: Invalid value. at offset: 6",
    b'{"a":Infinit}': "JSON Parse error: Invalid value. at offset: 12",
    b'{"a":+1}': "JSON Parse error: Invalid value. at offset: 5",
    b'{"a":-}': "JSON Parse error: Invalid value. at offset: 6",
    b'{"a":"abc': "JSON Parse error: Missing a closing quotation mark in string. at offset: 9",
    b'{"a":"ab\x00"}': "JSON Parse error: Missing a closing quotation mark in string. at offset: 8",
    b'{"a":"ab\x01"}': "JSON Parse error: Invalid escape character in string. at offset: 8",
    b'{"a":"\\x"}': "JSON Parse error: Invalid escape character in string. at offset: 6",
    b'{"a":"\\u00zz"}': "JSON Parse error: Incorrect hex digit after \\u escape in string. at offset: 6",
    b'{"a":"\\ud800"}': "JSON Parse error: The surrogate pair in string is invalid. at offset: 6",
    b'{"a":"\\ud800\\u0041"}': "JSON Parse error: The surrogate pair in string is invalid. at offset: 6",
    b'{"a":1e400}': "JSON Parse error: Number too big to be stored in double. at offset: 5",
    b'{"a":1.}': "JSON Parse error: Miss fraction part in number. at offset: 7",
    b'{"a":1e+}': "JSON Parse error: Miss exponent in number. at offset: 8",
    b'\xef\xbb\xbf{"a":1 2}': "JSON Parse error: Missing a comma or '}' after an object member. at offset: 10",
    b"[1, 2]": "JSON Value: [1, 2] Is not object",
    b"12": "JSON Value: 12 Is not object",
    b'"x"': 'JSON Value: "x" Is not object',
    b"NaN": "JSON Value: NaN Is not object",
    b"null": "JSON Value: null Is not object",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_rapidjson_accepts_is_accepted(case: str) -> None:
    """Bodies that TensorFlow Serving reads are read, with the same values."""
    body, expected = ACCEPTED[case]
    assert parse(body) == (expected or {"a": [2.0**64, 2**64 - 1], "b": math.inf})
    assert parse(memoryview(body)) == parse(body)


def test_nan_is_read() -> None:
    """NaN may have a sign, which does not matter."""
    values = parse(b'{"a": [NaN, -NaN, 1]}')["a"]
    assert math.isnan(values[0])
    assert math.isnan(values[1])
    assert values[2] == 1


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body.decode("latin-1") or "empty")
def test_what_rapidjson_refuses_is_refused_in_its_words(body: bytes) -> None:
    """Errors have TensorFlow Serving's text and the offset of the byte to blame."""
    with pytest.raises(InvalidArgument) as caught:
        parse(body)
    assert caught.value.message == REFUSED[body]


def test_integers_stay_integers_and_floats_floats() -> None:
    """The type of a number is that of its token, on both ways of reading."""
    for tail in (b"}", b', "b": NaN}'):
        values = parse(b'{"a": [1, 1.0, 1e2, -0, -0.0, 123456789012345678901]' + tail)["a"]
        assert list(map(type, values)) == [int, float, float, int, float, float]
        assert values == [1, 1.0, 100.0, 0, 0.0, 123456789012345678901.0]


def test_deep_nesting_in_an_ignored_key_is_read() -> None:
    """A value nested 500,000 deep neither crashes nor fails, as TensorFlow Serving's own test has it."""
    depth = 500_000
    document = parse(b'{"ignored": ' + b"[" * depth + b"]" * depth + b', "instances": [1]}')
    assert document["instances"] == [1]
    with pytest.raises(InvalidArgument, match=re.escape("JSON Value: [[[[[[")):
        parse(b"[" * 5000 + b"]" * 5000)


def test_large_bodies_with_nan_are_read_in_runs() -> None:
    """A large array with NaN among its numbers is read as by Python's own parser."""
    values = np.random.default_rng(0).standard_normal(50_000)
    values[::97] = np.nan
    text = json.dumps({"inputs": [values.tolist(), [1, -2, 3] * 5000]}).encode()
    inputs = parse(text)["inputs"]
    np.testing.assert_array_equal(inputs[0], values)
    assert inputs[1] == [1, -2, 3] * 5000


def test_an_error_deep_in_a_large_array_has_its_offset() -> None:
    """A damaged number far inside is found where it stands."""
    good = b'{"inputs": [' + b"1.25, " * 10_000
    with pytest.raises(InvalidArgument, match=f"Miss fraction part in number. at offset: {len(good) + 2}$"):
        parse(good + b"1.]}")
    with pytest.raises(InvalidArgument, match=f"Invalid value. at offset: {len(good)}$"):
        parse(good + b", 1]}")


def test_plain_bodies_are_left_to_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies without oddities never reach the slow reader, even with colons in their strings."""
    from tfbundle_serving.apis import json_reader

    def refuse(_body: bytes) -> Any:
        raise AssertionError("the slow reader was asked")

    monkeypatch.setattr(json_reader, "read", refuse)
    for document in (
        {"signature_name": "a:b", "instances": [{"x": [1, 2], "t": "http://x:1"}, {"x": [3, 4], "t": "y: z"}]},
        {"inputs": {"x": [[1.0]], "y": [{"b64": "aGk="}]}},
        {"inputs": ["when", ":", '"":', "then"]},
        {"inputs": [[[{"b64": "aGk="}]]]},
    ):
        assert parse(orjson.dumps(document)) == document


DUMPS: dict[str, tuple[Any, str]] = {
    "object": ({"a": 1, "b": [1, 2.5, "x"]}, '{\n    "a": 1,\n    "b": [1, 2.5, "x"]\n}'),
    "object in an array": ([{"c": 2}, [], {}], '[{\n        "c": 2\n    }, [], {}]'),
    "constants": ([None, True, False], "[null, true, false]"),
    "escapes": ('"/\\\n\x01\x1f\x7fé', '"\\"/\\\\\\n\\u0001\\u001F\x7fé"'),
    "doubles": (
        [1.0, 1e21, 1e20, 1.5e300, 0.1, 1e-6, 1.5e-7, -0.0, 123456789012345680000.0],
        "[1.0, 1e21, 100000000000000000000.0, 1.5e300, 0.1, 0.000001, 1.5e-7, -0.0, 123456789012345680000.0]",
    ),
    "stops at NaN": ([1, [2, math.nan, 3]], "[1, [2, "),
}


@pytest.mark.parametrize("case", DUMPS)
def test_values_are_shown_as_rapidjson_prints_them(case: str) -> None:
    """The text of a value in an error is RapidJSON's pretty print, arrays on one line."""
    value, text = DUMPS[case]
    assert dump(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (9e6, "9e+06"),
        (999999.0, "999999.0"),
        (3e-5, "3e-05"),
        (1e39, "1e+39"),
        (1.23456789e39, "1.23456789e+39"),
        (math.pi * 1e40, "3.1415926535897932e+40"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (-0.0, "-0.0"),
    ],
)
def test_a_number_alone_is_shown_like_a_reply(value: float, text: str) -> None:
    """A single number is printed as a float32 where it is in range, else as a double."""
    assert dump(value) == decimal(value) == text


def test_long_values_are_cut() -> None:
    """An error does not repeat the request: a value is cut after 256 bytes, even within a string."""
    assert len(dump(list(range(10_000)))) == MAX_BYTES
    assert len(dump("x" * 10_000)) == MAX_BYTES
    assert len(dump({"a": "é" * 10_000}).encode("utf-8", "surrogateescape")) == MAX_BYTES


@pytest.mark.parametrize("number", ["2", "Inf"])
def test_last_wins_inside(number: str) -> None:
    """What examples need: the first of two at the top level, the last of two further in, whichever parser reads it."""
    body = '{"examples": [{"a": 1, "b": {"c": 1, "c": 3}, "a": NUMBER}], "examples": []}'.replace("NUMBER", number)
    document = parse(body.encode(), last_wins_inside=True)
    assert document == {"examples": [{"a": float(number), "b": {"c": 3}}]}
    assert parse(body.encode()) == {"examples": [{"a": 1, "b": {"c": 1}}]}

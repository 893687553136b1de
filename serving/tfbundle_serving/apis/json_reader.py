"""JSON read the way RapidJSON 1.1 reads it for TensorFlow Serving: what it accepts, its error texts, its offsets.

This is the reader for what a fast parser refuses. It accepts NaN, Inf and Infinity, a byte order mark, anything behind
the end of the first value, strings that are not UTF-8 and any depth; of two members with one name the first counts.

    {"a" 1}          Missing a colon after a name of object member. at offset: 5
    {"a": [1, 2}     Missing a comma or ']' after an array element. at offset: 11

Two things are not copied: doubles are read exactly, where RapidJSON is off by one bit in every eighth, and every
number too big for a double is an error, where RapidJSON lets some become infinite.

Source: tensorflow_serving/util/json_tensor.cc (ParseJson: iterative, NaN and Inf, stop when done).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

from .errors import InvalidArgument

_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]*)?")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
#: Numbers with their commas, as far as characters can tell; a parser then decides.
_NUMBER_RUN = re.compile(rb"[-+0-9.eENaInfity, \t\r\n]{8,8192},")

_WORDS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}
_ESCAPES = {
    0x22: b'"',
    0x2F: b"/",
    0x5C: b"\\",
    0x62: b"\b",
    0x66: b"\f",
    0x6E: b"\n",
    0x72: b"\r",
    0x74: b"\t",
}
_MISSING_END: dict[type[Any], str] = {
    list: "Missing a comma or ']' after an array element.",
    dict: "Missing a comma or '}' after an object member.",
}
_END: dict[type[Any], bytes] = {list: b"]", dict: b"}"}


def read(body: bytes, *, last_wins_inside: bool = False) -> Any:
    """Read the first JSON value of a body.

    Args:
        body: What came.
        last_wins_inside: Of two members with one name the last counts, except in the outermost object.

    Returns:
        The value: integers that fit 64 bits as int, other numbers as float, bytes that are not UTF-8 as surrogate
        escapes.

    Raises:
        InvalidArgument: It is not JSON, in TensorFlow Serving's words.
    """
    nul = body.find(0)  # RapidJSON takes a NUL for the end
    text = body if nul < 0 else body[:nul]
    at = _skip(text, len(_BOM) if text.startswith(_BOM) else 0)
    if text[at : at + 1] in (b"", b",", b":", b"]", b"}"):
        raise _error("The document is empty.", at)
    # Objects and arrays that are open, and the names whose values are awaited: the call stack would not be deep enough.
    stack: list[Any] = []
    names: list[str] = []
    no_run_before = 0
    while True:
        start = text[at : at + 1]
        value: Any
        if start == b"[":
            value, at = [], _skip(text, at + 1)
            if text[at : at + 1] != b"]":
                stack.append(value)
                continue
            at += 1
        elif start == b"{":
            value, at = {}, _skip(text, at + 1)
            if text[at : at + 1] != b"}":
                stack.append(value)
                at = _name(text, at, names)
                continue
            at += 1
        elif start == b'"':
            value, at = _string(text, at)
        else:
            if at >= no_run_before and stack and type(stack[-1]) is list and (run := _NUMBER_RUN.match(text, at)):
                numbers = read_elements(run[0][:-1])
                if numbers is not None:
                    stack[-1] += numbers
                    at = _skip(text, run.end())
                    continue
                no_run_before = run.end()
            value, at = _scalar(text, at)
        while True:  # a value is complete; with it perhaps the array or object around it
            if not stack:
                return value
            parent = stack[-1]
            kind = type(parent)
            if kind is list:
                parent.append(value)
            elif last_wins_inside and len(stack) > 1:
                parent[names.pop()] = value
            else:
                parent.setdefault(names.pop(), value)
            at = _skip(text, at)
            end = text[at : at + 1]
            if end == b",":
                at = _skip(text, at + 1)
                if kind is dict:
                    at = _name(text, at, names)
                break
            if end != _END[kind]:
                raise _error(_MISSING_END[kind], at)
            at += 1
            value = stack.pop()


def _skip(text: bytes, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty string


def _error(what: str, at: int) -> InvalidArgument:
    return InvalidArgument(f"JSON Parse error: {what} at offset: {at}")


def _name(text: bytes, at: int, names: list[str]) -> int:
    """Read a member's name and colon; give the offset of its value."""
    if text[at : at + 1] != b'"':
        raise _error("Missing a name for object member.", at)
    name, at = _string(text, at)
    at = _skip(text, at)
    if text[at : at + 1] != b":":
        raise _error("Missing a colon after a name of object member.", at)
    names.append(name)
    return _skip(text, at + 1)


def _scalar(text: bytes, at: int) -> tuple[Any, int]:
    """Read null, true, false or a number."""
    if text[at : at + 1] in _WORDS:
        word, value = _WORDS[text[at : at + 1]]
        return value, _expect(text, at, word)
    number = _NUMBER.match(text, at)
    if number is None:
        return _special(text, at)
    fraction, exponent = number.groups()
    if fraction == b".":
        raise _error("Miss fraction part in number.", number.end(1))
    if exponent is not None and not exponent[-1:].isdigit():
        raise _error("Miss exponent in number.", number.end())
    try:
        whole = fraction is None and exponent is None
        return (to_int if whole else to_float)(number[0]), number.end()
    except OverflowError:
        raise _error("Number too big to be stored in double.", at) from None


def _expect(text: bytes, at: int, word: bytes) -> int:
    for byte in word:
        if text[at : at + 1] != bytes((byte,)):
            raise _error("Invalid value.", at)
        at += 1
    return at


def _special(text: bytes, at: int) -> tuple[float, int]:
    """Read NaN, Inf or Infinity, with or without a minus."""
    sign = -1.0 if text[at : at + 1] == b"-" else 1.0
    at += sign < 0
    if text[at : at + 1] == b"N":
        return math.nan, _expect(text, at, b"NaN")
    at = _expect(text, at, b"Inf")
    if text[at : at + 1] == b"i":
        at = _expect(text, at, b"inity")
    return sign * math.inf, at


def to_int(digits: bytes | str) -> int | float:
    """Read an integer; beyond 64 bits it is a float."""
    if len(digits) < 19:
        return int(digits)
    value = to_float(digits)
    if -1e19 < value < 2e19:
        exact = int(digits)
        if -(1 << 63) <= exact < 1 << 64:
            return exact
    return value


def to_float(digits: bytes | str) -> float:
    """Read a number as a double.

    Raises:
        OverflowError: It is too big.
    """
    value = float(digits)
    if math.isinf(value):
        raise OverflowError
    return value


_RUN_DECODER = json.JSONDecoder(parse_int=to_int, parse_float=to_float)


def read_elements(text: bytes | memoryview) -> list[Any] | None:
    """Read the text between the brackets of a list of numbers, or of lists of them, at once.

    Returns:
        The elements; None where a reader that knows RapidJSON's rules must decide.
    """
    listed = b"".join((b"[", text, b"]"))
    try:
        values: list[Any] = orjson.loads(listed)
    except orjson.JSONDecodeError:
        try:
            values = _RUN_DECODER.decode(listed.decode("ascii"))
        except (ValueError, OverflowError, RecursionError):
            return None
    return values


def _string(text: bytes, at: int) -> tuple[str, int]:
    """Read a string that starts at the quotation mark `at`."""
    stop = _PLAIN.match(text, at + 1).end()  # type: ignore[union-attr]  # it matches the empty string
    if text[stop : stop + 1] == b'"':
        return text[at + 1 : stop].decode("utf-8", "surrogateescape"), stop + 1
    parts = [text[at + 1 : stop]]
    while text[stop : stop + 1] != b'"':
        if text[stop : stop + 1] == b"\\":
            part, stop = _escape(text, stop)
            parts.append(part)
        elif stop == len(text):
            raise _error("Missing a closing quotation mark in string.", stop)
        else:
            raise _error("Invalid escape character in string.", stop)
        start, stop = stop, _PLAIN.match(text, stop).end()  # type: ignore[union-attr]
        parts.append(text[start:stop])
    return b"".join(parts).decode("utf-8", "surrogateescape"), stop + 1


def _escape(text: bytes, at: int) -> tuple[bytes, int]:
    """Read the escape whose backslash is at `at`; a lone low surrogate becomes three bytes, as RapidJSON makes it."""
    code = text[at + 1] if at + 1 < len(text) else 0
    if code in _ESCAPES:
        return _ESCAPES[code], at + 2
    if code != 0x75:
        raise _error("Invalid escape character in string.", at)
    point, end = _hex(text, at + 2, at)
    if 0xD800 <= point <= 0xDBFF:
        if text[end : end + 2] != b"\\u":
            raise _error("The surrogate pair in string is invalid.", at)
        low, end = _hex(text, end + 2, at)
        if not 0xDC00 <= low <= 0xDFFF:
            raise _error("The surrogate pair in string is invalid.", at)
        point = 0x10000 + (point - 0xD800 << 10) + (low - 0xDC00)
    return chr(point).encode("utf-8", "surrogatepass"), end


def _hex(text: bytes, at: int, escape: int) -> tuple[int, int]:
    digits = _HEX4.match(text, at)
    if digits is None:
        raise _error("Incorrect hex digit after \\u escape in string.", escape)
    return int(digits[0], 16), digits.end()

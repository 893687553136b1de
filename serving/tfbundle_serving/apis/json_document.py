"""A REST body becomes a Python object.

orjson reads what is plain JSON, and `json_reader` what orjson refuses, the way RapidJSON does. A body in which a name
may come twice goes to Python's own parser, which can be told to keep the first.

    {"signature_name": "serving_default", "instances": [...]}

Source: tensorflow_serving/util/json_tensor.cc (ParseJson).
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from . import json_reader
from .errors import InvalidArgument
from .json_dump import dump

#: The end of a member's name. A string can only add to the matches, never hide one.
_NAME_END = re.compile(rb'"[ \t\r\n]*:')
#: What arrays of numbers, and of such arrays, are written with.
_OF_NUMBERS = b"0123456789+-.eE, \t\r\n[]"


def _first_wins(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, value in members:
        document.setdefault(name, value)
    return document


def parse(body: bytes | memoryview, *, last_wins_inside: bool = False) -> dict[str, Any]:
    """Read a REST body, whose top level must be an object.

    Args:
        body: What came.
        last_wins_inside: Of two members with one name the last counts, except at the top level.

    Returns:
        The object. Of two members with one name the first counts; bytes that are not UTF-8 are surrogate escapes;
        integers that fit 64 bits are int, all other numbers float.

    Raises:
        InvalidArgument: It is not JSON or not an object, in TensorFlow Serving's words.
    """
    data = bytes(body)
    if not data:
        raise InvalidArgument("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        document = json_reader.read(data, last_wins_inside=last_wins_inside)
    else:
        if _may_repeat_a_name(data, document):
            document = _read_repeated(data, last_wins_inside)
    if not isinstance(document, dict):
        raise InvalidArgument(f"JSON Value: {dump(document)} Is not object")
    return document


def only_numbers(body: bytes | memoryview) -> bool:
    """Tell whether every array of a body that `parse` accepts holds nothing but numbers and arrays of numbers.

    One look at the characters spares a look at the type of each number. False may also mean that it is not known.
    """
    data = bytes(body)
    return not data[data.find(b"[") : data.rfind(b"]") + 1].translate(None, _OF_NUMBERS)


def _read_repeated(data: bytes, last_wins_inside: bool) -> Any:
    """Read a body that orjson accepts, in which a name may come twice."""
    outermost: list[tuple[str, Any]] = []

    def read_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal outermost
        outermost = members  # it ends last
        return dict(members) if last_wins_inside else _first_wins(members)

    decoder = json.JSONDecoder(object_pairs_hook=read_object, parse_int=json_reader.to_int)
    try:
        document = decoder.decode(data.decode("utf-8"))
    except RecursionError:
        return json_reader.read(data, last_wins_inside=last_wins_inside)
    return _first_wins(outermost) if isinstance(document, dict) else document


def _may_repeat_a_name(data: bytes, document: Any) -> bool:
    """Tell whether the text may have more members than the document: of two with one name orjson keeps the last."""
    colons = data.count(b":")
    if isinstance(document, dict):
        nearby = len(document) + sum(len(value) for value in document.values() if isinstance(value, dict))
        if colons == nearby:
            return False
    members = _count_members(document)
    return colons != members and len(_NAME_END.findall(data)) != members


def _count_members(document: Any) -> int:
    """Count the members of all objects; where an array starts with a plain value, objects in it are not looked for."""
    count = 0
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            count += len(value)
            rest += [inner for inner in value.values() if isinstance(inner, (dict, list))]
        elif isinstance(value, list):
            first: Any = value
            while isinstance(first, list) and first:
                first = first[0]
            if isinstance(first, dict):
                rest += value
    return count

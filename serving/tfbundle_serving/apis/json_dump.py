"""A JSON value as TensorFlow Serving's error texts show it: "JSON Value: [1, 2.5] Type: Array is not of ...".

Arrays stand on one line, objects are indented by four, and the text ends after 256 bytes, so that an error never
repeats a whole request. A number on its own is shown like the values of a reply (as float32, if it is in range), a
number inside a value with all digits of its double.

Source: tensorflow_serving/util/json_tensor.cc (JsonValueToString, WriteDecimal); RapidJSON 1.1 PrettyWriter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

#: No error shows more of a value than this.
MAX_BYTES = 256

_FLOAT_MAX = float(np.finfo(np.float32).max)
_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\b"): "\\b",
    ord("\f"): "\\f",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
_CONSTANTS = {None: "null", True: "true", False: "false"}


def dump(value: Any, limit: int = MAX_BYTES) -> str:
    """Write a value of a parsed document for an error text.

    Args:
        value: What `json_document.parse` gives.
        limit: Bytes after which the text is cut.
    """
    if isinstance(value, float):
        return decimal(value)
    parts: list[bytes] = []
    size = 0
    for token in _tokens(value):
        part = token.encode("utf-8", "surrogateescape")
        parts.append(part)
        size += len(part)
        if size >= limit:
            break
    return b"".join(parts)[:limit].decode("utf-8", "surrogateescape")


def decimal(value: float) -> str:
    """Write a number the way replies do: six digits where they are exact, else enough; never without "." or "e"."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    single = abs(value) <= _FLOAT_MAX
    if single:
        value = float(np.float32(value))
    text = f"{value:g}"
    if (np.float32(text) if single else float(text)) != value:
        text = f"{value:.9g}" if single else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def _tokens(root: Any) -> Iterator[str]:
    """Write a value in pieces, without recursion: a request may be nested deeper than the call stack."""
    # What remains to be written of each open array or object, and its closing bracket.
    stack: list[tuple[Iterator[Any], str]] = []
    value = root
    while True:
        if isinstance(value, list) and value:
            yield "["
            stack.append((iter(value), "]"))
            first = True
        elif isinstance(value, dict) and value:
            yield "{"
            stack.append((iter(value.items()), "}"))
            first = True
        elif isinstance(value, float) and not math.isfinite(value):
            return  # PrettyWriter gives up here
        else:
            yield _leaf(value)
            first = False
        while stack:
            rest, closing = stack[-1]
            try:
                value = next(rest)
            except StopIteration:
                stack.pop()
                yield closing if closing == "]" else "\n" + "    " * len(stack) + closing
                first = False
                continue
            if closing == "}":
                name, value = value
                yield f"{'' if first else ','}\n{'    ' * len(stack)}{quote(name)}: "
            elif not first:
                yield ", "
            break
        else:
            return


def _leaf(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, float):
        return _double(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return "[]" if value == [] else "{}" if value == {} else str(value)


def quote(text: str) -> str:
    """Write a JSON string; nothing but quotation marks, backslashes and control characters is escaped."""
    return f'"{text.translate(_ESCAPES)}"'


def _double(value: float) -> str:
    """Write a double as RapidJSON does: shortest digits, plain up to 21 places, "1.5e30" beyond."""
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{point - 1}"

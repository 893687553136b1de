"""An array becomes a JSON value that orjson writes.

orjson writes contiguous numeric arrays by itself, float32 with the fewest digits that read back as the same float32,
and whole floats with ".0". What it writes wrongly or not at all is prepared here: NaN and Infinity (as bare words, the
way TensorFlow Serving writes and reads them), strings, scalars.

    float32 [0.1, 1, nan]               [0.1,1.0,NaN]
    strings [b"hi"]                     ["hi"], as {"b64": "aGk="} where the name ends in "_bytes"

Source: tensorflow_serving/util/json_tensor.cc (WriteDecimal, AddSingleValueAndAdvance, IsNamedTensorBytes).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .errors import InvalidArgument
from .json_dump import quote

#: Outputs and inputs of dtype string with names that end so travel as base64.
BYTES_SUFFIX = "_bytes"

#: The only positive finite float32 whose shortest text (7.038531e-26), read as the nearest double and rounded to
#: float32, comes back as its neighbour. All 2,139,095,040 were tried.
_DOUBLY_ROUNDED = np.uint32(0x15AE43FD)


def dump_document(document: Any) -> bytes:
    """Write a document whose leaves may be what `to_json` gives."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def to_json(name: str, array: NDArray[Any], *, not_text: Callable[[bytes], Any]) -> Any:
    """Prepare an array for `dump_document`.

    Args:
        name: The input's or output's name; its suffix decides how strings are written.
        array: Any shape; numbers of at most 64 bits but half, or strings as bytes, str or objects.
        not_text: Gives the JSON form of a string that is not UTF-8.

    Raises:
        InvalidArgument: An object array holds something other than strings.
    """
    if array.dtype.kind in "OSUT":
        strings = np.empty(array.size, object)
        strings[:] = [_string(name, element, not_text) for element in array.ravel().tolist()]
        return strings.reshape(array.shape).tolist()
    return _numbers(array)


def rows_to_json(name: str, array: NDArray[Any], *, not_text: Callable[[bytes], Any]) -> list[Any]:
    """Prepare an array of at least one dimension as a list with one JSON value for each row; see `to_json`."""
    value = to_json(name, array, not_text=not_text)
    return [_numbers(row) for row in array] if isinstance(value, orjson.Fragment) else list(value)


def _numbers(array: NDArray[Any]) -> Any:
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    if array.ndim == 0:
        return orjson.Fragment(_finite_or_not(array.reshape(1))[1:-1])
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return _exact(array)
    return orjson.Fragment(_finite_or_not(array))


def _exact(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype == np.float32 and (array.view(np.uint32) & np.uint32(0x7FFFFFFF) == _DOUBLY_ROUNDED).any():
        return array.astype(np.float64)
    return array


def _finite_or_not(array: NDArray[Any]) -> bytes:
    """Write an array with NaN and Infinity: orjson writes null for them, and nothing else as null."""
    text = dump_document(_exact(array))
    if array.dtype.kind != "f":
        return text
    odd = array[~np.isfinite(array)]
    words = np.where(np.isnan(odd), b"NaN", np.where(odd > 0, b"Infinity", b"-Infinity")).tolist()
    pieces = text.split(b"null")
    return b"".join([piece for pair in zip(pieces, [*words, b""], strict=True) for piece in pair])


def _string(name: str, element: Any, not_text: Callable[[bytes], Any]) -> Any:
    if isinstance(element, str):
        element = element.encode("utf-8", "surrogateescape")
    elif not isinstance(element, bytes):
        raise InvalidArgument(f"{name}: a string tensor takes bytes or str, got {type(element).__name__}")
    if name.endswith(BYTES_SUFFIX):
        return as_base64(element)
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        return not_text(element)


def as_base64(element: bytes) -> dict[str, str]:
    """Write bytes as {"b64": "..."}."""
    return {"b64": base64.b64encode(element).decode("ascii")}


def as_raw_text(element: bytes) -> orjson.Fragment:
    """Write bytes between quotation marks as they are, UTF-8 or not, as TensorFlow Serving's replies do."""
    return orjson.Fragment(quote(element.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))

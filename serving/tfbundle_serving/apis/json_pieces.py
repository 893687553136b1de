"""A long reply of numbers, read piece by piece.

A parsed number takes 32 bytes; those of a reply of 10 MB fill memory faster than the processor can reach it, which
costs more than parsing. So the text of the list is cut at commas between its elements, and each piece is parsed and
packed while it is in the cache.

    [[1,2],[3,4],[5,6]]  ->  [[1,2],[3,4]]  +  [[5,6]]

Where to cut is guessed, and need not be right: a text that falls into valid JSON lists when cut at commas is itself
the list of all their elements. If a piece is not valid or not regular, the whole is read the ordinary way.
"""

from __future__ import annotations

import math
import re
import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dtypes import DType
from .json_reader import read_elements
from .json_tensor import MAX_RANK, flatten, has_json_form, shape_of

#: Below this many bytes there is nothing to gain.
MIN_BYTES = 1 << 18
#: Bytes of a piece; half and double of it were no faster.
_PIECE_BYTES = 1 << 17

_HEAD = re.compile(rb'\s*\{\s*"(?:predictions|outputs)"\s*:\s*\[((?:\s*\[)*)')
_TAIL = re.compile(rb"\]\s*\}\s*$")
_TAIL_BYTES = 64


def read_single_output(body: bytes, dtype: DType) -> NDArray[Any] | None:
    """Read a reply that holds one output of numbers.

    Returns:
        The array, or None where the ordinary way must be taken: a short reply, several outputs, another dtype than
        float, double or an integer, anything wrong.
    """
    head = _HEAD.match(body)
    tail = _TAIL.search(body, max(0, len(body) - _TAIL_BYTES))
    code = _code(dtype)
    if len(body) < MIN_BYTES or head is None or tail is None or not code:
        return None
    depth = head[1].count(b"[")
    if depth >= MAX_RANK:
        return None
    start, stop = head.start(1), tail.start()
    cut_behind = re.compile(rb"(?:\]\s*){%d}," % depth)
    try:
        return _read_list(body, start, stop, cut_behind, code, dtype)
    except struct.error:
        return None


def _code(dtype: DType) -> str:
    """Give the letter under which `struct` packs the dtype's numbers without loss; "" where there is none."""
    if not has_json_form(dtype) or dtype.is_string:
        return ""
    to = np.dtype(dtype.numpy_name)
    return "Q" if to == np.uint64 else {"f": "d", "i": "q", "u": "q"}.get(to.kind, "")


def _read_list(
    body: bytes, at: int, stop: int, cut_behind: re.Pattern[bytes], code: str, dtype: DType
) -> NDArray[Any] | None:
    parts: list[NDArray[Any]] = []
    rows = 0
    inner: list[int] | None = None
    whole = memoryview(body)
    while at < stop:
        cut = cut_behind.search(body, at + _PIECE_BYTES, stop)
        end = cut.end() - 1 if cut else stop
        if body.find(b"r", at, end) >= 0 or body.find(b"l", at, end) >= 0:  # true or false: numbers to struct
            return None
        elements = read_elements(whole[at:end])
        if not elements:
            return None
        at = end + 1
        if inner is None:
            inner = shape_of(elements)[1:]
        packed = _pack(elements, [len(elements), *inner], code)
        part = None if packed is None else _narrow(np.frombuffer(packed, code), dtype)
        if part is None:
            return None
        parts.append(part)
        rows += len(elements)
    return None if inner is None else np.concatenate(parts).reshape([rows, *inner])


def _pack(elements: list[Any], shape: list[int], code: str) -> bytes | None:
    """Pack the numbers of a nested list; None if it is not of that shape."""
    innermost = flatten(elements, shape[:-1])
    if innermost is None or set(map(type, innermost)) - {list} or set(map(len, innermost)) - {shape[-1]}:
        return None
    return struct.pack(f"{math.prod(shape)}{code}", *chain.from_iterable(innermost))


def _narrow(wide: NDArray[Any], dtype: DType) -> NDArray[Any] | None:
    """Give the array its dtype; None where an integer is out of range."""
    to = np.dtype(dtype.numpy_name)
    if to.kind == "f":
        with np.errstate(over="ignore"):
            return wide.astype(to)
    limits = np.iinfo(to)
    if wide.size and not int(limits.min) <= int(wide.min()) <= int(wide.max()) <= int(limits.max):
        return None
    return wide.astype(to, copy=False)

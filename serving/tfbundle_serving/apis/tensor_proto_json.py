"""TensorProto as protobuf's own JSON, as metadata shows the defaults of a signature's inputs.

    {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [], "unknown_rank": false}, "version_number": 0,
     "tensor_content": "", "float_val": [1.5], "double_val": [], ...}

Unlike the JSON of requests it shows the message, field by field, and not the array.

Source: tensorflow/core/framework/tensor.proto; the JSON mapping of protobuf, with fields at their defaults printed.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import dtypes
from .wire import Readable, as_int, as_text, as_view, fields, signed, unpack_varints, view

Values = Sequence[int | memoryview]


def tensor_proto_to_json(data: Readable) -> dict[str, Any]:
    """Give the JSON form of a TensorProto; int64 are strings there, bytes base64.

    Raises:
        DecodeError: The bytes are not one.
    """
    found: dict[int, list[int | memoryview]] = {}
    for number, _, value in fields(view(data)):
        found.setdefault(number, []).append(value)
    dtype = as_int(found.get(1, [0])[-1], "dtype")
    shape = {"tensor_shape": _shape(found[2])} if 2 in found else {}
    version = as_int(found.get(3, [0])[-1], "version_number")
    lists = {name: read(found.get(number, [])) for name, number, read in _LISTS}
    return {
        "dtype": dtypes.by_number(dtype).enum_name,
        **shape,
        "version_number": version,
        "tensor_content": _last_bytes(found.get(4, [])),
        **lists,
        "float8_val": _last_bytes(found.get(18, [])),
    }


def _shape(parts: Values) -> dict[str, Any]:
    dims: list[dict[str, str]] = []
    has_no_rank = False
    for part in parts:
        for number, _, value in fields(as_view(part, "tensor_shape")):
            if number == 2:
                dim = {"size": "0", "name": ""}
                for inner, _, content in fields(as_view(value, "dim")):
                    if inner == 1:
                        dim["size"] = str(as_int(content, "dim.size"))
                    elif inner == 2:
                        dim["name"] = as_text(content, "dim.name")
                dims.append(dim)
            elif number == 3:
                has_no_rank = bool(value)
    return {"dim": dims, "unknown_rank": has_no_rank}


def _last_bytes(parts: Values) -> str:
    return _base64(parts[-1]) if parts else ""


def _base64(part: int | memoryview) -> str:
    return base64.b64encode(as_view(part, "bytes")).decode()


def _numbers(parts: Values) -> list[int]:
    return [each for part in parts for each in ([part] if isinstance(part, int) else unpack_varints(part).tolist())]


def _reals(parts: Values, dtype: str) -> list[float | str]:
    array = np.frombuffer(b"".join(as_view(part, "values") for part in parts), dtype)
    # The shortest text of a float32 is not that of the double next to it.
    return [float(str(each)) if math.isfinite(each) else _named(float(each)) for each in array]


def _named(value: float) -> str:
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _floats(parts: Values) -> list[float | str]:
    return _reals(parts, "<f4")


def _doubles(parts: Values) -> list[float | str]:
    return _reals(parts, "<f8")


def _integers(parts: Values) -> list[int]:
    return [signed(each) for each in _numbers(parts)]


#: Name, number and reader of each field that is a list, in the order of their declaration. Handles and variants have
#: no form in JSON that says anything.
_LISTS: tuple[tuple[str, int, Callable[[Values], list[Any]]], ...] = (
    ("half_val", 13, _integers),
    ("float_val", 5, _floats),
    ("double_val", 6, _doubles),
    ("int_val", 7, _integers),
    ("string_val", 8, lambda parts: [_base64(part) for part in parts]),
    ("scomplex_val", 9, _floats),
    ("int64_val", 10, lambda parts: [str(each) for each in _integers(parts)]),
    ("bool_val", 11, lambda parts: [bool(each) for each in _numbers(parts)]),
    ("dcomplex_val", 12, _doubles),
    ("resource_handle_val", 14, lambda parts: [{} for _ in parts]),
    ("variant_val", 15, lambda parts: [{} for _ in parts]),
    ("uint32_val", 16, _numbers),
    ("uint64_val", 17, lambda parts: [str(each) for each in _numbers(parts)]),
)

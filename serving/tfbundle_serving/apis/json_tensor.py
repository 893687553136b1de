"""One JSON value becomes one array, by TensorFlow Serving's rules.

    [[1, 2], [3, 4]]         shape (2, 2)
    2.5                      shape ()
    {"b64": "aGk="}          a string, shape ()
    [[1], [2, 3]]            Encountered list at unexpected size: 2 at level: 1 expected size: 1

The signature gives the dtype, and nothing is converted to it but an integer to a float: 1.0 is no int32, 1 is no bool.
An integer must fit its dtype; TensorFlow Serving lets 300 through as a uint8 and makes 44 of it, which is not copied.

What fits is read a level at a time without looking at single elements. Only where something does not fit a slow walk
finds the element to blame.

Source: tensorflow_serving/util/json_tensor.cc (FillTensorProto, AddValueToTensor, JsonDecodeBase64Object).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .dtypes import DType
from .errors import InvalidArgument, Unimplemented
from .json_dump import dump

#: numpy 1 stops at 32, and rows need one more for the batch; numpy 2 stops at 64, TensorFlow at 254.
MAX_RANK = 31

_TYPE_NAMES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a dtype takes: types of parsed JSON values, and for integers the least and the largest."""

    types: frozenset[type]
    limits: tuple[int, int] | None = None

    def fits(self, value: Any) -> bool:
        """Whether one element may stand in a tensor of the dtype."""
        return type(value) in self.types and (self.limits is None or self.limits[0] <= value <= self.limits[1])

    def all_fit(self, values: list[Any]) -> bool:
        """Whether all elements may, at the speed of C."""
        if not set(map(type, values)) <= self.types:
            return False
        return not self.limits or not values or (self.limits[0] <= min(values) and max(values) <= self.limits[1])


def _integers(dtype: DType) -> _Rule:
    limits = np.iinfo(dtype.numpy_name)
    return _Rule(frozenset({int}), (int(limits.min), int(limits.max)))


_FLOATS = (dtypes.FLOAT, dtypes.DOUBLE)
_INTEGERS = (dtypes.INT8, dtypes.INT16, dtypes.INT32, dtypes.INT64, dtypes.UINT8, dtypes.UINT32, dtypes.UINT64)
#: dtype number to rule; a dtype that is not here has no JSON form (half, bfloat16, uint16, complex).
_RULES: dict[int, _Rule] = {
    dtypes.FLOAT.number: _Rule(frozenset({int, float})),
    dtypes.DOUBLE.number: _Rule(frozenset({int, float})),
    dtypes.BOOL.number: _Rule(frozenset({bool})),
    dtypes.STRING.number: _Rule(frozenset({str, dict})),
    **{dtype.number: _integers(dtype) for dtype in _INTEGERS},
}


def has_json_form(dtype: DType) -> bool:
    """Whether the REST API carries tensors of this dtype."""
    return dtype.number in _RULES


def is_base64(value: Any) -> bool:
    """Whether a parsed value is {"b64": "..."}, which stands for a string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def read_tensor(value: Any, dtype: DType, *, only_numbers: bool = False) -> NDArray[Any]:
    """Read a JSON value as an array of its own shape.

    Args:
        value: Part of a parsed document.
        dtype: The dtype that the signature gives.
        only_numbers: If the value is a list, it is known to hold nothing but numbers and lists of numbers.

    Returns:
        An array of that dtype; strings as an object array of bytes.

    Raises:
        InvalidArgument: It is ragged, or an element does not fit the dtype; in TensorFlow Serving's words.
        Unimplemented: The dtype has no JSON form.
    """
    array = read_fitting(value, dtype, only_numbers=only_numbers)
    if array is not None:
        return array
    flat, shape = walk(value, dtype)
    return build(flat, shape, dtype)


def read_fitting(value: Any, dtype: DType, *, only_numbers: bool = False) -> NDArray[Any] | None:
    """Read a JSON value in which everything fits; None where `walk` must say what does not."""
    if only_numbers and type(value) is list and dtype in _FLOATS:
        return _read_floats(value, dtype)
    shape = shape_of(value)
    rule = _RULES.get(dtype.number)
    flat = flatten(value, shape) if rule is not None and len(shape) <= MAX_RANK else None
    if rule is None or flat is None or not rule.all_fit(flat):
        return None
    if dtype.is_string:
        try:
            flat = [_read_string(element) for element in flat]
        except InvalidArgument:
            return None
    return build(flat, shape, dtype)


def _read_floats(value: list[Any], dtype: DType) -> NDArray[Any] | None:
    """Read nested lists of numbers; None where they are ragged, too deep or too large for a double."""
    try:
        array = np.array(value, np.float64)
    except (OverflowError, TypeError, ValueError):
        return None
    return _narrow(array, dtype) if array.ndim <= MAX_RANK else None


def _narrow(array: NDArray[Any], dtype: DType) -> NDArray[Any]:
    """Round doubles to the dtype; what float32 cannot hold becomes infinite, as in RapidJSON."""
    if dtype.number == dtypes.DOUBLE.number:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype.to_numpy())


def shape_of(value: Any) -> list[int]:
    """Give the shape that a value has if it is regular, going by the first element of each level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def flatten(value: Any, shape: Sequence[int]) -> list[Any] | None:
    """List the elements of a nested list in order; None if it is not of that shape."""
    flat = [value]
    for size in shape:
        if set(map(type, flat)) - {list} or set(map(len, flat)) - {size}:
            return None
        flat = list(chain.from_iterable(flat))
    return flat


def walk(value: Any, dtype: DType) -> tuple[list[Any], list[int]]:
    """Read a JSON value element by element.

    Returns:
        The elements (bytes for strings), and the shape.

    Raises:
        InvalidArgument: As `read_tensor`, for the first element that does not fit.
        Unimplemented: As `read_tensor`.
    """
    shape = shape_of(value)
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f"Encountered list nested {len(shape)} levels deep, expected at most {MAX_RANK}")
    flat: list[Any] = []
    _walk_level(value, dtype, shape, 0, flat)
    return flat, shape


def _walk_level(value: Any, dtype: DType, shape: list[int], level: int, flat: list[Any]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise InvalidArgument(
                f"JSON Value: {dump(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {rank}"
            )
        flat.append(_read_element(value, dtype))
        return
    if level >= rank:
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for inner in value:
        _walk_level(inner, dtype, shape, level + 1, flat)


def _read_element(value: Any, dtype: DType) -> Any:
    rule = _RULES.get(dtype.number)
    if rule is None and not isinstance(value, dict):
        raise Unimplemented(f"Conversion of JSON Value: {dump(value)} to type: {dtype.name}")
    if rule is None or not rule.fits(value):
        raise InvalidArgument(
            f"JSON Value: {dump(value)} Type: {type_name(value)} is not of expected type: {dtype.name}"
        )
    return _read_string(value) if dtype.is_string else value


def _read_string(value: str | dict[str, Any]) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else read_base64(value)


def type_name(value: Any) -> str:
    """Name a parsed value's type as TensorFlow Serving's errors do."""
    return str(value) if isinstance(value, bool) else _TYPE_NAMES[type(value)]


def read_base64(value: dict[str, Any]) -> bytes:
    """Read {"b64": "..."}: standard alphabet; white space is skipped and the padding may be missing.

    Raises:
        InvalidArgument: It is another object, or not base64.
    """
    if not is_base64(value):
        raise InvalidArgument(f"JSON Value: {dump(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    if not text.endswith("="):
        text += "=" * (-len(text) % 4)
    try:
        if len(text) % 4:  # Python 3.10 would overlook one "=" too many
            raise ValueError
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidArgument("Unable to base64 decode") from None


def build(flat: list[Any], shape: Sequence[int], dtype: DType) -> NDArray[Any]:
    """Make the array of elements that are known to fit."""
    to = dtype.to_numpy()
    array: NDArray[Any]
    if dtype.is_string:
        array = np.empty(len(flat), object)
        array[:] = flat
    elif to.kind == "f":
        # By way of double, as RapidJSON reads every number.
        array = _narrow(np.array(flat, np.float64), dtype)
    else:
        array = np.array(flat, to)
    return array.reshape(shape)

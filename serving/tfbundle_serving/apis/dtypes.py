"""TensorFlow dtype to numpy dtype to TensorProto field: one table for every room.

Source: tensorflow/core/framework/types.proto and tensor.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .errors import InvalidArgument, Unimplemented


class Packing(Enum):
    """How the typed field of a TensorProto holds the values."""

    LITTLE_ENDIAN = "values as they lie in memory"
    VARINT = "one varint per value"
    BITS_AS_VARINT = "the 16 bits of each value as a varint"
    BYTES = "one length-delimited field per value"
    NONE = "no numpy form"


@dataclass(frozen=True, slots=True)
class DType:
    """One TensorFlow dtype.

    Attributes:
        number: The DataType enum value.
        name: TensorFlow's short name, as its messages print it ("float").
        enum_name: The DataType enum name, as JSON metadata prints it ("DT_FLOAT").
        numpy_name: Name of the numpy dtype; "object" for strings (elements are `bytes`), "" where there is none.
        field: Number of the typed value field in TensorProto; 0 where there is none.
        packing: How that field holds the values.
        storage: Numpy dtype of what a value is made of, for quantized dtypes, whose numpy form is TensorFlow's own: a
            structure with one field, named after the dtype.
        is_ml: Whether the numpy form comes from the package ml_dtypes, under TensorFlow's name.
    """

    number: int
    name: str
    enum_name: str
    numpy_name: str = ""
    field: int = 0
    packing: Packing = Packing.NONE
    storage: str = ""
    is_ml: bool = False

    def to_numpy(self) -> np.dtype[Any]:
        """Give the numpy dtype.

        Raises:
            Unimplemented: The dtype has no numpy form, or needs the package ml_dtypes, which is not installed.
        """
        if self.is_ml:
            return _ml_dtype(self.name)
        if self.storage:
            return np.dtype([(self.name, self.storage)])
        if not self.numpy_name:
            raise Unimplemented(f"dtype {self.enum_name} has no numpy form")
        return np.dtype(self.numpy_name)

    @property
    def is_string(self) -> bool:
        """Whether elements are byte strings."""
        return self.number == 7


def _ml_dtype(name: str) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        if error.name != "ml_dtypes":
            raise
        raise Unimplemented(f"{name} values need the package ml_dtypes: pip install ml_dtypes") from error
    if not hasattr(ml_dtypes, name):
        raise Unimplemented(f"{name} values need a newer version of the package ml_dtypes")
    dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return dtype


FLOAT = DType(1, "float", "DT_FLOAT", "float32", 5, Packing.LITTLE_ENDIAN)
DOUBLE = DType(2, "double", "DT_DOUBLE", "float64", 6, Packing.LITTLE_ENDIAN)
INT32 = DType(3, "int32", "DT_INT32", "int32", 7, Packing.VARINT)
UINT8 = DType(4, "uint8", "DT_UINT8", "uint8", 7, Packing.VARINT)
INT16 = DType(5, "int16", "DT_INT16", "int16", 7, Packing.VARINT)
INT8 = DType(6, "int8", "DT_INT8", "int8", 7, Packing.VARINT)
STRING = DType(7, "string", "DT_STRING", "object", 8, Packing.BYTES)
COMPLEX64 = DType(8, "complex64", "DT_COMPLEX64", "complex64", 9, Packing.LITTLE_ENDIAN)
INT64 = DType(9, "int64", "DT_INT64", "int64", 10, Packing.VARINT)
BOOL = DType(10, "bool", "DT_BOOL", "bool", 11, Packing.VARINT)
BFLOAT16 = DType(14, "bfloat16", "DT_BFLOAT16", "bfloat16", 13, Packing.BITS_AS_VARINT, is_ml=True)
UINT16 = DType(17, "uint16", "DT_UINT16", "uint16", 7, Packing.VARINT)
COMPLEX128 = DType(18, "complex128", "DT_COMPLEX128", "complex128", 12, Packing.LITTLE_ENDIAN)
HALF = DType(19, "half", "DT_HALF", "float16", 13, Packing.BITS_AS_VARINT)
UINT32 = DType(22, "uint32", "DT_UINT32", "uint32", 16, Packing.VARINT)
UINT64 = DType(23, "uint64", "DT_UINT64", "uint64", 17, Packing.VARINT)

_WITH_NUMPY = (
    FLOAT,
    DOUBLE,
    INT32,
    UINT8,
    INT16,
    INT8,
    STRING,
    COMPLEX64,
    INT64,
    BOOL,
    BFLOAT16,
    UINT16,
    COMPLEX128,
    HALF,
    UINT32,
    UINT64,
)
#: What travels between a request and a graph, and what nobody computes with in numpy.
_RARE = (
    DType(11, "qint8", "DT_QINT8", "", 7, Packing.VARINT, "int8"),
    DType(12, "quint8", "DT_QUINT8", "", 7, Packing.VARINT, "uint8"),
    DType(13, "qint32", "DT_QINT32", "", 7, Packing.VARINT, "int32"),
    DType(15, "qint16", "DT_QINT16", "", 7, Packing.VARINT, "int16"),
    DType(16, "quint16", "DT_QUINT16", "", 7, Packing.VARINT, "uint16"),
    # One byte a value: the field of type bytes lies on the wire like a packed one.
    DType(24, "float8_e5m2", "DT_FLOAT8_E5M2", "", 18, Packing.LITTLE_ENDIAN, is_ml=True),
    DType(25, "float8_e4m3fn", "DT_FLOAT8_E4M3FN", "", 18, Packing.LITTLE_ENDIAN, is_ml=True),
    DType(29, "int4", "DT_INT4", "", 7, Packing.VARINT, is_ml=True),
    DType(30, "uint4", "DT_UINT4", "", 7, Packing.VARINT, is_ml=True),
)
_WITHOUT_NUMPY = (
    DType(0, "invalid", "DT_INVALID"),
    DType(20, "resource", "DT_RESOURCE"),
    DType(21, "variant", "DT_VARIANT"),
)

#: DataType enum value to dtype.
BY_NUMBER: dict[int, DType] = {dtype.number: dtype for dtype in _WITH_NUMPY + _RARE + _WITHOUT_NUMPY}
#: "DT_FLOAT" to dtype.
BY_ENUM_NAME: dict[str, DType] = {dtype.enum_name: dtype for dtype in BY_NUMBER.values()}
#: "float32" to dtype; strings are found by kind, see `of_array`.
BY_NUMPY_NAME: dict[str, DType] = {dtype.numpy_name: dtype for dtype in _WITH_NUMPY if dtype is not STRING}
_RARE_BY_NAME = {dtype.name: dtype for dtype in _RARE}


def by_number(number: int) -> DType:
    """Find the dtype of a DataType enum value; a value this table does not know becomes a nameless dtype."""
    return BY_NUMBER.get(number) or DType(number, f"unknown dtype enum ({number})", str(number))


def of_numpy(dtype: np.dtype[Any]) -> DType:
    """Find the TensorFlow dtype of a numpy dtype; bytes, str and object arrays are strings.

    Raises:
        InvalidArgument: TensorFlow has no such dtype (structured, datetime and the like).
    """
    if dtype.kind in "OSUT":
        return STRING
    found = BY_NUMPY_NAME.get(dtype.name) or _RARE_BY_NAME.get(dtype.names[0] if dtype.names else dtype.name)
    if found is None:
        raise InvalidArgument(f"numpy dtype {dtype} has no TensorFlow counterpart")
    return found

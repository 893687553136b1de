"""numpy array to TensorProto bytes and back.

Both forms of a TensorProto are written and read: `tensor_content`, the raw little-endian block that requests carry,
and the typed value fields (`float_val` and so on) that TensorFlow Serving answers with. `float_val` and its kin are the
same raw block under another field number, which is why a reply can be read as a view.

Source: tensorflow/core/framework/tensor.proto, tensor.cc (FromProtoField: a short list repeats its last value).
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .dtypes import DType, Packing
from .errors import DecodeError, InvalidArgument
from .wire import (
    LENGTH,
    Chunk,
    Readable,
    as_int,
    as_view,
    fields,
    length_field,
    pack_varints,
    read_varint,
    size_of,
    tag,
    unpack_varints,
    varint,
    varint_field,
    view,
)

_DTYPE, _SHAPE, _CONTENT, _STRING_VAL = 1, 2, 4, 8

#: A shortened tensor ("this value, n times") may not grow past this many bytes: a dozen bytes on the wire could
#: otherwise ask for all memory.
MAX_EXPANDED_BYTES = 1 << 28

_LITTLE = sys.byteorder == "little"


def encode_tensor(array: NDArray[Any], *, typed: bool = False) -> bytes:
    """Write one TensorProto; see `tensor_chunks`."""
    return b"".join(tensor_chunks(array, typed=typed))


def tensor_chunks(array: NDArray[Any], *, typed: bool = False) -> list[Chunk]:
    """Write one TensorProto as pieces to be joined; large values are views of the array, not copies.

    Args:
        array: Any shape; strings as bytes, str or object arrays of either.
        typed: Write the typed value fields, as TensorFlow Serving's replies do, instead of tensor_content.

    Raises:
        InvalidArgument: TensorFlow has no such dtype, or an object array holds something but bytes and str.
    """
    dtype = dtypes.of_numpy(array.dtype)
    head = varint_field(_DTYPE, dtype.number) + length_field(_SHAPE, _shape(array.shape))
    if dtype.packing is Packing.BYTES:
        return [head, *_string_chunks(array)]
    if array.size == 0:
        return [head]
    if typed and dtype.packing is not Packing.LITTLE_ENDIAN:
        payload: Chunk = pack_varints(_as_uint64(array.ravel(), dtype))
        field = dtype.field
    else:
        payload = _raw(array)
        field = dtype.field if typed else _CONTENT
    return [head + tag(field, LENGTH) + varint(len(payload)), payload]


def _shape(shape: tuple[int, ...]) -> bytes:
    return b"".join([length_field(2, varint_field(1, size) if size else b"") for size in shape])


def _raw(array: NDArray[Any]) -> memoryview:
    if not (_LITTLE and array.dtype.isnative):
        array = array.astype(array.dtype.newbyteorder("<"))
    # A dtype from ml_dtypes has no buffer format of its own; its bytes do.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _as_uint64(flat: NDArray[Any], dtype: DType) -> NDArray[np.uint64]:
    if dtype.packing is Packing.BITS_AS_VARINT:
        flat = flat.view(np.uint16)
    elif dtype.storage:
        flat = flat.view(dtype.storage)
    elif dtype.is_ml:
        flat = flat.astype(np.int64)
    if flat.dtype.kind == "i":
        return flat.astype(np.int64).view(np.uint64)
    return flat.astype(np.uint64)


def _string_chunks(array: NDArray[Any]) -> list[Chunk]:
    key = tag(_STRING_VAL, LENGTH)
    chunks: list[Chunk] = []
    for element in array.ravel().tolist():
        if isinstance(element, str):
            element = element.encode("utf-8", "surrogateescape")
        elif not isinstance(element, bytes):
            raise InvalidArgument(f"a string tensor takes bytes or str, got {type(element).__name__}: {element!r:.80}")
        chunks.append(key + varint(len(element)) + element)
    return chunks


def tensor_field_chunks(field: int, name: str, array: NDArray[Any], *, typed: bool = False) -> list[Chunk]:
    """Write one entry of a map from alias to TensorProto as pieces to be joined.

    Raises:
        InvalidArgument: See `tensor_chunks`; the message names the alias.
    """
    try:
        chunks = tensor_chunks(array, typed=typed)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error}") from error
    key = name.encode("utf-8", "surrogateescape")
    size = size_of(chunks)
    entry_head = tag(1, LENGTH) + varint(len(key)) + key + tag(2, LENGTH) + varint(size)
    return [tag(field, LENGTH) + varint(len(entry_head) + size) + entry_head, *chunks]


def decode_tensor(data: Readable) -> NDArray[Any]:
    """Read one TensorProto.

    Returns:
        An array of the tensor's shape and dtype, strings as an object array of bytes. Where the values lie in the
        message as one block the array is a read-only view that keeps the message alive.

    Raises:
        DecodeError: The bytes are not a TensorProto, or its values do not fit its shape and dtype.
        Unimplemented: The dtype has no numpy form.
    """
    number = 0
    shape: list[int] = []
    content: memoryview | None = None
    values: dict[int, list[int | memoryview]] = {}
    for field, _, value in fields(view(data)):
        if field == _DTYPE:
            number = as_int(value, "dtype")
        elif field == _SHAPE:
            shape += _read_shape(as_view(value, "tensor_shape"))
        elif field == _CONTENT:
            content = as_view(value, "tensor_content")
        elif field > _CONTENT:
            values.setdefault(field, []).append(value)
    dtype = dtypes.by_number(number)
    to = dtype.to_numpy()
    size = math.prod(shape)
    if dtype.packing is Packing.BYTES:
        flat = _read_strings(values.get(_STRING_VAL, []), size, content)
    elif content is not None and len(content) > 0:
        flat = _read_block(content, to)
        if flat.size != size:
            raise DecodeError(f"tensor of shape {shape} and dtype {dtype.name} has {len(content)} bytes of content")
    else:
        flat = _expand(_read_values(values.get(dtype.field, []), dtype, to), size, shape)
    try:
        return flat.reshape(shape)
    except ValueError:  # more dimensions than numpy has, or an overflow hidden behind a zero
        raise DecodeError(f"tensor shape of {len(shape)} dimensions cannot be represented: {shape!s:.80}") from None


def _read_shape(data: memoryview) -> list[int]:
    shape = []
    for field, _, value in fields(data):
        if field == 2:
            size = 0
            for inner, _, number in fields(as_view(value, "dim")):
                if inner == 1:
                    size = as_int(number, "dim.size")
            if size < 0:
                raise DecodeError(f"tensor has a dimension of size {size}")
            shape.append(size)
        elif field == 3 and value:
            raise DecodeError("tensor has an unknown rank")
    return shape


def _read_block(block: memoryview, to: np.dtype[Any]) -> NDArray[Any]:
    if len(block) % to.itemsize:
        raise DecodeError(f"{len(block)} bytes are no whole number of {to} values")
    if to.name == "bool":
        # Any byte but 0 and 1 would make a bool array that breaks numpy's own invariants.
        return np.frombuffer(block, np.uint8).astype(bool)
    if to.kind == "V":  # a dtype from ml_dtypes or a structure, which have no buffer format of their own
        return np.frombuffer(block, f"<u{to.itemsize}").view(to)
    if _LITTLE:
        return np.frombuffer(block, to)
    return np.frombuffer(block, to.newbyteorder("<")).astype(to)


def _read_values(parts: list[int | memoryview], dtype: DType, to: np.dtype[Any]) -> NDArray[Any]:
    """Read a typed field, whether packed, split into several packed chunks, or one field per value."""
    if not parts:
        return np.empty(0, to)
    if dtype.packing is Packing.LITTLE_ENDIAN:
        blocks = [as_view(part, f"a {dtype.name} value") for part in parts]
        return _read_block(blocks[0] if len(blocks) == 1 else memoryview(b"".join(blocks)), to)
    wide = np.uint16 if dtype.packing is Packing.BITS_AS_VARINT else np.uint64
    if len(parts) == 1 and not isinstance(parts[0], int):
        numbers = unpack_varints(parts[0], wide)
    else:
        numbers = np.concatenate(
            [np.array([p], np.uint64).astype(wide) if isinstance(p, int) else unpack_varints(p, wide) for p in parts]
        )
    if dtype.packing is Packing.BITS_AS_VARINT:
        return numbers.view(to)
    if to.kind == "b":
        return numbers.astype(bool)
    if dtype.storage:
        return numbers.astype(dtype.storage).view(to)
    return numbers.view(np.int64).astype(to) if to.kind == "i" or dtype.is_ml else numbers.astype(to)


def _expand(flat: NDArray[Any], size: int, shape: list[int]) -> NDArray[Any]:
    if flat.size == size:
        return flat
    if flat.size > size:
        raise DecodeError(f"tensor of shape {shape} has {flat.size} values")
    if size * flat.dtype.itemsize > MAX_EXPANDED_BYTES:
        raise DecodeError(f"tensor of shape {shape!s:.80} has only {flat.size} values; refused to repeat them")
    full = np.empty(size, flat.dtype)
    full[: flat.size] = flat
    full[flat.size :] = flat[-1] if flat.size else 0
    return full


def _read_strings(parts: list[int | memoryview], size: int, content: memoryview | None) -> NDArray[Any]:
    if content is not None and len(content) > 0 and not parts:
        parts = list(_split_string_content(content, size))
    if len(parts) > size:
        raise DecodeError(f"string tensor of {size} elements has {len(parts)} values")
    if size * 8 > MAX_EXPANDED_BYTES and len(parts) < size:
        raise DecodeError(f"string tensor of {size} elements has only {len(parts)} values; refused to repeat them")
    flat = np.empty(size, object)
    strings = [bytes(as_view(part, "string_val")) for part in parts]
    flat[: len(strings)] = strings
    flat[len(strings) :] = strings[-1] if strings else b""
    return flat


def _split_string_content(content: memoryview, size: int) -> list[memoryview]:
    """Read string tensor_content: all lengths as varints, then all bytes (tensor_coding.cc, DecodeStringList)."""
    at, lengths = 0, []
    if size > len(content):
        raise DecodeError(f"string tensor of {size} elements has {len(content)} bytes of content")
    for _ in range(size):
        length, at = read_varint(content, at)
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise DecodeError("string tensor_content does not hold what its lengths say")
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings

"""The protobuf wire format, as far as TensorFlow Serving's messages use it.

Messages are written as lists of buffers joined once at the end, and read as views into the received bytes, so that a
tensor of ten megabytes is copied once on the way out and not at all on the way in.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from .errors import DecodeError

#: What a message is read from.
Readable = bytes | bytearray | memoryview
#: A piece of an outgoing message.
Chunk = bytes | memoryview

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

_ONE_BYTE = tuple(bytes((value,)) for value in range(128))
_MASK64 = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Write one varint; negative numbers take ten bytes, as protobuf's int32, int64 and enum fields do."""
    if 0 <= value < 128:
        return _ONE_BYTE[value]
    value &= _MASK64
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """Write the key that precedes a field's value."""
    return varint(field << 3 | wire_type)


def varint_field(field: int, value: int) -> bytes:
    """Write an integer, bool or enum field."""
    return tag(field, VARINT) + varint(value)


def length_field(field: int, payload: bytes) -> bytes:
    """Write a bytes, string or sub-message field."""
    return tag(field, LENGTH) + varint(len(payload)) + payload


def string_field(field: int, text: str) -> bytes:
    """Write a string field; surrogate escapes go back to the bytes they stand for."""
    return length_field(field, text.encode("utf-8", "surrogateescape"))


def size_of(chunks: Iterable[Chunk]) -> int:
    """Count the bytes of a message in pieces."""
    return sum(map(len, chunks))


def read_varint(data: Readable, at: int) -> tuple[int, int]:
    """Read one varint as an unsigned 64-bit number.

    Returns:
        The value and the offset behind it.

    Raises:
        DecodeError: The data ends within it, or it is longer than ten bytes.
    """
    result = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result & _MASK64, at
            shift += 7
            if shift > 63:
                raise DecodeError("varint of more than ten bytes")
    except IndexError:
        raise DecodeError("message ends inside a varint") from None


def signed(value: int) -> int:
    """Read an unsigned 64-bit value as the int64 or int32 that it stands for."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Walk over the fields of a message.

    Args:
        data: The message, a view of single bytes (see `view`).

    Yields:
        Field number, wire type, and the value: an int for varints, a view for everything else.

    Raises:
        DecodeError: The bytes are not a message.
    """
    at, end = 0, len(data)
    while at < end:
        key = data[at]
        at += 1
        if key > 127:
            key, at = read_varint(data, at - 1)
        wire_type = key & 7
        number = key >> 3
        if number == 0 or number > 0x1FFFFFFF:
            raise DecodeError(f"illegal field number {number}")
        if wire_type == LENGTH:
            if at < end and data[at] < 128:
                size = data[at]
                at += 1
            else:
                size, at = read_varint(data, at)
            stop = at + size
            if stop > end:
                raise DecodeError(f"field {number} claims {size} bytes where {end - at} are left")
            yield number, LENGTH, data[at:stop]
            at = stop
        elif wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, VARINT, value
        elif wire_type in (FIXED32, FIXED64):
            stop = at + (4 if wire_type == FIXED32 else 8)
            if stop > end:
                raise DecodeError(f"field {number} is cut off")
            yield number, wire_type, data[at:stop]
            at = stop
        elif wire_type == 3:
            at = _skip_group(data, at, number)
        else:
            raise DecodeError(f"field {number} has the illegal wire type {wire_type}")


def _skip_group(data: memoryview, at: int, number: int) -> int:
    """Step over a group, a form that no message of ours uses; nesting is counted, not recursed into."""
    open_groups = [number]
    while open_groups:
        key, at = read_varint(data, at)
        wire_type, field = key & 7, key >> 3
        if wire_type == VARINT:
            _, at = read_varint(data, at)
        elif wire_type == LENGTH:
            size, at = read_varint(data, at)
            at += size
        elif wire_type in (FIXED32, FIXED64):
            at += 4 if wire_type == FIXED32 else 8
        elif wire_type == 3:
            open_groups.append(field)
        elif wire_type == 4 and field == open_groups[-1]:
            open_groups.pop()
        else:
            raise DecodeError(f"field {number} is not a whole group")
        if at > len(data):
            raise DecodeError(f"field {number} is cut off")
    return at


def view(data: Readable) -> memoryview:
    """Look at received bytes without copying them."""
    return data if isinstance(data, memoryview) else memoryview(data)


def as_view(value: int | memoryview, what: str) -> memoryview:
    """Expect a length-delimited value.

    Raises:
        DecodeError: It is a number.
    """
    if isinstance(value, int):
        raise DecodeError(f"{what} is a number where bytes are expected")
    return value


def as_int(value: int | memoryview, what: str) -> int:
    """Expect a varint, read as int64.

    Raises:
        DecodeError: It is something else.
    """
    if not isinstance(value, int):
        raise DecodeError(f"{what} is not a varint")
    return signed(value)


def as_text(value: int | memoryview, what: str) -> str:
    """Expect a string; bytes that are not UTF-8 survive as surrogate escapes.

    Raises:
        DecodeError: It is a number.
    """
    return str(as_view(value, what), "utf-8", "surrogateescape")


def read_map_entry(entry: memoryview, what: str) -> tuple[str, memoryview]:
    """Read one entry of a map from string to message or bytes; the last key and value win.

    Raises:
        DecodeError: The bytes are not such an entry.
    """
    key, value = "", memoryview(b"")
    for number, _, content in fields(entry):
        if number == 1:
            key = as_text(content, what)
        elif number == 2:
            value = as_view(content, what)
    return key, value


def pack_varints(values: NDArray[np.uint64]) -> bytes:
    """Write a packed varint field's payload.

    Args:
        values: One-dimensional; signed numbers already sign-extended to 64 bits.
    """
    if values.size == 0:
        return b""
    largest = int(np.max(values))
    if largest < 128:
        return values.astype(np.uint8).tobytes()
    width = -(-largest.bit_length() // 7)
    groups = np.empty((values.size, width), np.uint8)
    rest = values.copy()
    used: NDArray[np.uint8] = np.ones(values.size, np.uint8)
    for column in range(width):
        groups[:, column] = rest & np.uint64(0x7F)
        rest >>= np.uint64(7)
        used += rest != 0
    used = np.minimum(used, np.uint8(width))
    position = np.arange(width, dtype=np.uint8)
    groups |= (position < (used - 1)[:, None]).astype(np.uint8) << np.uint8(7)
    return groups[position < used[:, None]].tobytes()


def unpack_varints(payload: memoryview) -> NDArray[np.uint64]:
    """Read a packed varint field's payload as unsigned 64-bit values.

    Raises:
        DecodeError: The last varint is cut off, or one is longer than ten bytes.
    """
    raw = np.frombuffer(payload, np.uint8)
    if raw.size == 0:
        return np.empty(0, np.uint64)
    last = raw < 0x80
    if not last[-1]:
        raise DecodeError("message ends inside a varint")
    if last.all():
        return raw.astype(np.uint64)
    ends = np.flatnonzero(last)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(np.max(lengths))
    if longest > 10:
        raise DecodeError("varint of more than ten bytes")
    values = (raw[starts] & 0x7F).astype(np.uint64)
    for position in range(1, longest):
        have = np.flatnonzero(lengths > position)
        values[have] |= (raw[starts[have] + position] & 0x7F).astype(np.uint64) << np.uint64(7 * position)
    return values

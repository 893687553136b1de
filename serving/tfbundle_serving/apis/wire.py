"""The protobuf wire format, as far as TensorFlow Serving's messages use it.

Messages are written as lists of buffers joined once at the end, and read as views into the received bytes, so that a
tensor of ten megabytes is copied once on the way out and not at all on the way in.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

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

#: Bytes of packed varints that are read together; what is made of them fits into a core's cache.
_BLOCK_BYTES = 1 << 18
#: The most bytes of a varint that 32 bits hold, and the most that there may be.
_SHORT_BYTES, _MOST_BYTES = 4, 10


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


def unpack_varints(payload: memoryview, to: type[np.unsignedinteger[Any]] = np.uint64) -> NDArray[Any]:
    """Read a packed varint field's payload, a cache's worth at a time.

    Args:
        payload: The varints, one behind the other.
        to: An unsigned dtype; higher bits of a value are cut off, as protobuf does where a field is narrower.

    Returns:
        The values as unsigned 64-bit numbers, or what is left of them in the dtype asked for.

    Raises:
        DecodeError: The last varint is cut off, or one is longer than ten bytes.
    """
    raw = np.frombuffer(payload, np.uint8)
    if raw.size == 0:
        return np.empty(0, to)
    if raw[-1] >= 0x80:
        raise DecodeError("message ends inside a varint")
    is_last = raw < 0x80
    values = np.empty(np.count_nonzero(is_last), to)
    if values.size == raw.size:
        values[:] = raw
        return values
    done, first = 0, 0
    for start in range(0, raw.size, _BLOCK_BYTES):
        ends = np.flatnonzero(is_last[start : start + _BLOCK_BYTES])
        if ends.size == 0:
            raise DecodeError("varint of more than ten bytes")
        ends += start - first
        behind = first + int(ends[-1]) + 1
        values[done : done + ends.size] = _unpack_block(raw[first:behind], ends)
        done, first = done + ends.size, behind
    return values


def _unpack_block(raw: NDArray[np.uint8], ends: NDArray[np.intp]) -> NDArray[Any]:
    """Read whole varints, given where each ends: short ones in 32 bits, which is half the work, and long ones."""
    lengths = np.diff(ends, prepend=-1)
    longest = int(np.max(lengths))
    if longest <= _SHORT_BYTES:
        return _unpack_short(raw, ends, longest)
    if longest > _MOST_BYTES:
        raise DecodeError("varint of more than ten bytes")
    values = np.empty(ends.size, np.uint64)
    is_long = lengths > _SHORT_BYTES
    short, long = np.flatnonzero(~is_long), np.flatnonzero(is_long)
    values[short] = _unpack_short(raw, ends[short], _SHORT_BYTES)
    lengths = lengths[long]
    values[long] = _unpack_long(raw, ends[long] + 1 - lengths, lengths)
    return values


def _unpack_short(raw: NDArray[np.uint8], ends: NDArray[np.intp], longest: int) -> NDArray[np.uint32]:
    """Read varints of at most four bytes, from their last and highest byte to the first.

    Before the first byte of all stands, by wrapping around, the last, which continues nothing.
    """
    values: NDArray[np.uint32] = raw.take(ends).astype(np.uint32)
    goes_on: NDArray[np.bool_] = np.ones(ends.size, bool)
    for back in range(1, longest):
        before = raw.take(ends - back, mode="wrap")
        goes_on &= before >= 0x80
        belongs = goes_on.view(np.uint8)
        values <<= belongs * np.uint8(7)
        values |= (before & np.uint8(0x7F)) * belongs
    return values


def _unpack_long(raw: NDArray[np.uint8], starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Read varints of any length, eight bytes of each at once: negative numbers, which take ten, and large ones."""
    padded = np.zeros(raw.size + _MOST_BYTES, np.uint8)
    padded[: raw.size] = raw
    windows: NDArray[Any] = np.ndarray((raw.size,), "<u8", padded, strides=(1,))
    values: NDArray[np.uint64] = windows[starts].astype(np.uint64, copy=False)
    others = (np.uint64(8) - np.minimum(lengths, 8).astype(np.uint64)) * np.uint64(8)
    values <<= others
    values >>= others
    values &= np.uint64(0x7F7F7F7F7F7F7F7F)
    # Seven bits of each byte move up to those of the byte below; then fourteen, then twenty-eight.
    for bits, upper in ((1, 0x7F007F007F007F00), (2, 0x3FFF00003FFF0000), (4, 0x0FFFFFFF00000000)):
        moved = values & np.uint64(upper)
        values ^= moved
        moved >>= np.uint64(bits)
        values |= moved
    for place, shift in ((8, 56), (9, 63)):
        further = (padded.take(starts + place) & np.uint8(0x7F)) * (lengths > place)
        values |= further.astype(np.uint64) << np.uint64(shift)
    return values

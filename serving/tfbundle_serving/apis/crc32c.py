"""CRC-32C (Castagnoli), the checksum of TFRecord files, at the speed of memory.

    crc32c(b"123456789") == 0xE3069283

Byte by byte is Python's own speed, some 15 MB a second. What is longer is first made shorter without a change of its
remainder modulo the checksum's polynomial P, by whole arrays at a time:

    x^5685 + x^1362 + x^426 + 1 is a multiple of P, and so are its powers; its 64th is the same with every exponent
    times 64. A message of 64-bit words may thus lose its first word, if that is XORed into three words further behind;
    and 4,323 words at once, since none of them falls into the others. What is left is 5,685 words.

    A row of 32-bit words goes into the row behind it by a table for each of a word's four bytes: how a byte there and
    as many zeros as a row is long change a checksum.

Source: RFC 3720, section 12.1 (the polynomial); the multiple was searched for, and a test divides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .wire import Readable

#: Bit-reversed.
_POLYNOMIAL = 0x82F63B78
_MASK = 0xFFFFFFFF

#: Exponents of the sparse multiple of the polynomial, the last of which is 0.
SPARSE_MULTIPLE = (5685, 1362, 426, 0)
_TOP = SPARSE_MULTIPLE[0]
_SHIFTS = tuple(_TOP - exponent for exponent in SPARSE_MULTIPLE[1:])

#: 32-bit words of a row; each is tried on what the one before has left.
_ROW_WORDS = (1024, 32)
#: Fewer bytes than these are not worth an array; and messages as long as that are not worth a place among others.
_SHORT_BYTES = 512
_LONG_BYTES = 1 << 14
#: Messages that are worked on together have this many bytes at most, filled up to the longest; a few are not worth it.
_TOGETHER_BYTES = 1 << 20
_FEW = 8


def _byte_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return table


_TABLE = _byte_table()
_BYTE: tuple[int, ...] = tuple(_TABLE.tolist())


def crc32c(data: Readable, before: int = 0) -> int:
    """Give the checksum of bytes.

    Args:
        data: The bytes.
        before: The checksum of what stands before them.
    """
    crc = before ^ _MASK
    if len(data) < _SHORT_BYTES:
        return _by_byte(crc, bytes(data)) ^ _MASK
    # What stands in front as zeros changes nothing; what has been computed so far goes into the first four bytes.
    words = _with_zeros(np.frombuffer(data, np.uint8), crc)
    for length in _ROW_WORDS:
        words = _fold_rows(words, length)
    return _by_byte(0, words.tobytes()) ^ _MASK


def _by_byte(crc: int, data: bytes) -> int:
    table = _BYTE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


def _with_zeros(data: NDArray[np.uint8], crc: int) -> NDArray[np.uint32]:
    """Copy bytes behind so many zeros that they are whole rows of 32-bit words, and shorten what is long."""
    row_bytes = 4 * _ROW_WORDS[-1]
    zeros = -data.size % row_bytes
    copy = np.empty(zeros + data.size, np.uint8)
    copy[:zeros] = 0
    copy[zeros:] = data
    copy[zeros : zeros + 4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
    long = copy.view(np.uint64)
    surplus = max(0, long.size - _TOP)
    surplus -= surplus % (row_bytes // 8)
    step = min(_SHIFTS)
    for start in range(0, surplus, step):
        stop = min(start + step, surplus)
        for shift in _SHIFTS:
            long[start + shift : stop + shift] ^= long[start:stop]
    return copy[8 * surplus :].view("<u4")


def _fold_rows(words: NDArray[np.uint32], length: int) -> NDArray[np.uint32]:
    """Bring words down to less than two rows, the odd ones in front."""
    rows = words.size // length
    if rows < 2:
        return words
    tables = _advance(length)
    odd = words.size - rows * length
    row: NDArray[np.uint32] = words[odd : odd + length].copy()
    if odd:
        row[length - odd :] ^= _apply(tables, words[:odd])
    for start in range(odd + length, words.size, length):
        row = _apply(tables, row)
        row ^= words[start : start + length]
    return row


@lru_cache(maxsize=16)
def _advance(words: int) -> NDArray[np.uint32]:
    """Make the tables, (4, 256), that let a word go by so many words of zeros; a power of two."""
    if words == 1:
        tables = np.empty((4, 256), np.uint32)
        tables[3] = _TABLE
        for place in (2, 1, 0):
            tables[place] = (tables[place + 1] >> np.uint32(8)) ^ _TABLE[tables[place + 1] & np.uint32(0xFF)]
        return tables
    half = _advance(words // 2)
    doubled = _apply(half, half.ravel())
    return np.reshape(doubled, (4, 256))


def _apply(tables: NDArray[np.uint32], words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    places = np.ascontiguousarray(words, "<u4").view(np.uint8).reshape(-1, 4)
    out: NDArray[np.uint32] = tables[0].take(places[:, 0])
    for place in (1, 2, 3):
        out ^= tables[place].take(places[:, place])
    return out


def crc32c_of_each(messages: Sequence[bytes]) -> list[int]:
    """Give the checksums of many messages, short ones side by side: as many at once as there are of like length."""
    found = [0] * len(messages)
    order = sorted(range(len(messages)), key=lambda place: len(messages[place]))
    group: list[int] = []
    for place in order:
        size = len(messages[place])
        # Fewer bytes than the four that a checksum begins with have no place in the table.
        if size >= _LONG_BYTES or size < 4:
            found[place] = crc32c(messages[place])
            continue
        if group and (len(group) + 1) * size > _TOGETHER_BYTES:
            _side_by_side(messages, group, found)
            group = []
        group.append(place)
    if group:
        _side_by_side(messages, group, found)
    return found


def _side_by_side(messages: Sequence[bytes], places: Sequence[int], found: list[int]) -> None:
    """Work on messages as the rows of a table, four bytes of each at a time; the last is the longest."""
    if len(places) < _FEW:
        for place in places:
            found[place] = crc32c(messages[place])
        return
    width = -(-max(4, len(messages[places[-1]])) // 4) * 4
    fills = [width - len(messages[place]) for place in places]
    block = bytearray().join([bytes(fill) + messages[place] for place, fill in zip(places, fills, strict=True)])
    # A checksum begins as ones, which is as if the first four bytes were inverted; zeros before them change nothing.
    flat = np.frombuffer(block, np.uint8)
    flat[(np.arange(len(places)) * width + fills)[:, None] + np.arange(4)] ^= np.uint8(0xFF)
    tables, crc = _advance(1), np.zeros(len(places), np.uint32)
    for column in np.ascontiguousarray(flat.view("<u4").reshape(len(places), -1).T):
        crc ^= column
        crc = _apply(tables, crc)
    for place, value in zip(places, (crc ^ np.uint32(_MASK)).tolist(), strict=True):
        found[place] = value

"""TFRecord files: records one behind the other, of any content.

    length (8 bytes)   its checksum (4)   data   the data's checksum (4)

Numbers are little-endian; a checksum is a CRC-32C, turned and shifted so that it may be checksummed again.

Source: tensorflow/core/lib/io/record_writer.h; tensorflow/core/lib/hash/crc32c.h (Mask).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from .crc32c import crc32c, crc32c_of_each
from .errors import DecodeError
from .wire import Chunk, size_of

#: Bytes before and behind a record's data.
HEAD_BYTES, TAIL_BYTES = 12, 4

_GZIP_MAGIC = b"\x1f\x8b"
_MASK_DELTA = 0xA282EAD8
#: What a file is read by.
_BUFFER_BYTES = 1 << 20
#: Data of more bytes than this is not copied to be written.
_LARGE_BYTES = 1 << 16


class NoRecordError(DecodeError):
    """A file holds something else where a record should begin.

    Attributes:
        at: The place in bytes.
    """

    def __init__(self, at: int) -> None:
        super().__init__(f"it is damaged at byte {at}: no record begins there" if at else "it is no TFRecord file")
        self.at = at


#: Told the place in bytes where a file's last record begins, which is not whole, and the file's size.
OnTornTail = Callable[[int, int], None]


def mask(crc: int) -> int:
    """Turn and shift a CRC-32C as it stands in the file."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@lru_cache(maxsize=4096)
def _head(length: int) -> bytes:
    # Requests to one model are often of one length.
    data = struct.pack("<Q", length)
    return data + struct.pack("<I", mask(crc32c(data)))


def frame(records: Sequence[Sequence[Chunk]]) -> list[Chunk]:
    """Put records behind each other, each given in pieces.

    Returns:
        Pieces of the file: large ones as they are given, small ones joined.
    """
    small = [b"".join(chunks) if size_of(chunks) <= _LARGE_BYTES else b"" for chunks in records]
    checksums = crc32c_of_each(small)
    out: list[Chunk] = []
    joined: list[bytes] = []
    for chunks, data, checksum in zip(records, small, checksums, strict=True):
        if data or not chunks:
            joined += (_head(len(data)), data, struct.pack("<I", mask(checksum)))
            continue
        out += (b"".join([*joined, _head(size_of(chunks))]), *chunks)
        checksum = 0
        for chunk in chunks:
            checksum = crc32c(chunk, checksum)
        joined = [struct.pack("<I", mask(checksum))]
    return [*out, b"".join(joined)]


def read_records(path: str | os.PathLike[str], on_torn_tail: OnTornTail | None = None) -> Iterator[bytes]:
    """Read the records of an uncompressed TFRecord file; lengths are checked by their checksums, data is not.

    Args:
        path: The file.
        on_torn_tail: Told where the file ends within a record, as it does while a server writes it, or where one was
            killed; the whole records were given before. None makes that an error.

    Raises:
        DecodeError: The file is compressed, damaged, or none; or ends within a record; the message says at which byte.
        OSError: It cannot be read.
    """
    with Path(path).open("rb", buffering=_BUFFER_BYTES) as file:
        if file.read(2) == _GZIP_MAGIC:
            raise DecodeError("it is compressed, expected a plain TFRecord file")
        size = os.fstat(file.fileno()).st_size
        file.seek(0)
        at = 0
        while head := file.read(HEAD_BYTES):
            length = _read_head(head, at)
            data = b"" if length is None or length > size - at else file.read(length + TAIL_BYTES)
            if length is None or len(data) < length + TAIL_BYTES:
                if on_torn_tail is None:
                    raise DecodeError(f"it is cut off: its last record begins at byte {at} and is not whole")
                on_torn_tail(at, size)
                return
            yield data[:length]
            at += HEAD_BYTES + length + TAIL_BYTES


def whole_records_end(file: BinaryIO, at: int) -> int:
    """Find where the last whole record ends.

    Args:
        file: A TFRecord file, at whichever place.
        at: Where to begin; a record begins there.

    Raises:
        NoRecordError: Somewhere from there on is none.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(at)
    while head := file.read(HEAD_BYTES):
        length = _read_head(head, at)
        if length is None or at + HEAD_BYTES + length + TAIL_BYTES > size:
            return at
        at += HEAD_BYTES + length + TAIL_BYTES
        file.seek(length + TAIL_BYTES, os.SEEK_CUR)
    return at


def _read_head(head: bytes, at: int) -> int | None:
    """Read a record's length; None where the file ends before it."""
    if len(head) < HEAD_BYTES:
        if at == 0:
            raise NoRecordError(at)
        return None
    length: int = struct.unpack_from("<Q", head)[0]
    # A length of a record that was read before needs no arithmetic.
    if head != _head(length):
        raise NoRecordError(at)
    return length

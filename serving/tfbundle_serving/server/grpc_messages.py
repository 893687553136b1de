"""A request's message on its way in: found in the data of a stream, gathered, inflated.

    1 byte: 1 = compressed by the call's grpc-encoding; 4 bytes: length, big-endian; the message

Source: grpc's PROTOCOL-HTTP2.md ("Length-Prefixed-Message").
"""

from __future__ import annotations

import zlib

import numpy as np

from tfbundle_serving.apis.errors import Internal, ResourceExhausted
from tfbundle_serving.apis.wire import Readable

PREFIX_BYTES = 5
#: Messages up to this size are copied out of what was received, which is larger and would be kept alive by a view.
_COPIED_BYTES = 1 << 16

#: Bytes to a multiple of which TensorFlow aligns tensors (EIGEN_MAX_ALIGN_BYTES).
_ALIGNMENT = 64

#: Name of a compression to what zlib calls it: a zlib or a gzip wrapper around the largest window.
WINDOW_BITS = {b"deflate": zlib.MAX_WBITS, b"gzip": zlib.MAX_WBITS | 16}
IDENTITY = b"identity"


class MessageReader:
    """Gathers one message; what follows it is not looked at.

    Args:
        max_bytes: Bytes that it may have.

    Attributes:
        message: The message once it is there, read-only.
        is_compressed: Whether it is.
        received: Bytes of it that came.
    """

    __slots__ = ("_into", "_max_bytes", "_prefix", "is_compressed", "message", "received")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefix = b""
        self._into: memoryview | None = None
        self.message: Readable | None = None
        self.is_compressed = False
        self.received = 0

    @property
    def has_begun(self) -> bool:
        """Whether there was any of it."""
        return bool(self._prefix) or self._into is not None

    def feed(self, data: bytes, at: int, stop: int) -> bool:
        """Take data, and tell whether the message is complete.

        Raises:
            ResourceExhausted: It is to be larger than it may; said as soon as its length is known.
            Internal: What was sent is no message.
        """
        if self._into is None:
            if self._prefix or stop - at < PREFIX_BYTES:
                missing = PREFIX_BYTES - len(self._prefix)
                self._prefix += data[at : min(stop, at + missing)]
                at += missing
                if len(self._prefix) < PREFIX_BYTES:
                    return False
                size = self._read_prefix(self._prefix, 0)
            else:
                size = self._read_prefix(data, at)
                at += PREFIX_BYTES
            if stop - at >= size:
                self.received = size
                end = at + size
                self.message = data[at:end] if size <= _COPIED_BYTES else memoryview(data)[at:end]
                return True
            self._into = _make_room(size)
        into = self._into
        size = min(stop - at, len(into) - self.received)
        into[self.received : self.received + size] = memoryview(data)[at : at + size]
        self.received += size
        if self.received < len(into):
            return False
        self.message = into.toreadonly()
        return True

    def _read_prefix(self, data: bytes, at: int) -> int:
        flag = data[at]
        if flag > 1:
            raise Internal(f"Bad GRPC frame type 0x{flag:02x}")
        self.is_compressed = flag == 1
        size = int.from_bytes(data[at + 1 : at + PREFIX_BYTES], "big")
        if size > self._max_bytes:
            raise ResourceExhausted(f"Received message larger than max ({size} vs. {self._max_bytes})")
        return size


def _make_room(size: int) -> memoryview:
    """Make a buffer for a message, so that it ends on a boundary that TensorFlow likes.

    A tensor's content is as a rule the last there is in a request. Where it ends so, and is as long as most are, it
    also begins so, and TensorFlow computes with it in place instead of with a copy.
    """
    try:
        # Unlike a bytearray, pages of it that nothing was written to take no memory.
        room = np.empty(size + _ALIGNMENT, np.uint8)
    except MemoryError:
        raise ResourceExhausted(f"no memory for a message of {size} bytes") from None
    start = -(room.ctypes.data + size) % _ALIGNMENT
    return room[start : start + size].data


def inflate(message: Readable, encoding: bytes, max_bytes: int) -> bytes:
    """Inflate a message.

    Args:
        message: Compressed.
        encoding: A key of `WINDOW_BITS`.
        max_bytes: Bytes that it may have; no more than one further is made of it.

    Raises:
        ResourceExhausted: It has more.
        Internal: It cannot be inflated.
    """
    inflater = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        inflated = inflater.decompress(message, max_bytes + 1)
    except zlib.error as error:
        raise Internal(f"the message cannot be inflated: {error}") from error
    if len(inflated) > max_bytes:
        raise ResourceExhausted(f"Received message larger than max ({len(inflated)} vs. {max_bytes})")
    if not inflater.eof:
        raise Internal("the message cannot be inflated: it is cut off")
    return inflated

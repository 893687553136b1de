"""What a connection receives: bytes in pieces of any size become frames, and data that is handed on as it comes.

Source: RFC 9113, sections 3.4, 4.1 and 6.1.
"""

from __future__ import annotations

from typing import Protocol

from .frames import (
    DATA,
    END_STREAM,
    HEAD,
    HEAD_BYTES,
    LARGEST,
    PADDED,
    PREFACE,
    SMALL_FRAME_BYTES,
    ConnectionFaultError,
    ErrorCode,
)
from .stream import Stream


class Owner(Protocol):
    """What frames are handed to."""

    def on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Take a frame that is there as a whole."""

    def on_data_frame(self, number: int, length: int, flags: int) -> Stream | None:
        """Take note that a DATA frame begins, and find its stream; None for one that was closed meanwhile."""

    def is_open(self, stream: Stream) -> bool:
        """Tell whether a stream has not been closed."""


class Incoming:
    """The receiving half of a connection.

    Args:
        owner: Takes what came.
        max_frame_bytes: Bytes that a frame's payload may have.
    """

    __slots__ = (
        "_data_flags",
        "_data_left",
        "_data_stream",
        "_is_greeted",
        "_is_stopped",
        "_max_frame_bytes",
        "_owner",
        "_padding_left",
        "_rest",
    )

    def __init__(self, owner: Owner, max_frame_bytes: int) -> None:
        self._owner = owner
        self._max_frame_bytes = max_frame_bytes
        self._rest = b""
        self._data_left = self._padding_left = self._data_flags = 0
        self._data_stream: Stream | None = None
        self._is_greeted = self._is_stopped = False

    def stop(self) -> None:
        """Hand nothing on any more."""
        self._is_stopped = True
        self._rest = b""
        self._data_stream = None

    def feed(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            ConnectionFaultError: They break the rules.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if not self._is_greeted:
            if not data.startswith(PREFACE[:end]):
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
            if end < len(PREFACE):
                self._rest = data
                return
            at = len(PREFACE)
            self._is_greeted = True
        while not self._is_stopped:
            if self._data_left or self._padding_left:
                at = self._go_on_with_data(data, at)
            if end - at < HEAD_BYTES:
                break
            word, flags, number = HEAD.unpack_from(data, at)
            length, kind = word >> 8, word & 0xFF
            if length > self._max_frame_bytes:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            number &= LARGEST
            start = at + HEAD_BYTES
            stop = start + length
            if kind == DATA:
                if flags & PADDED:
                    if start == end and length:
                        break
                    self._begin_padded(data, start, length, flags, number)
                    at = start + 1
                    continue
                stream = self._owner.on_data_frame(number, length, flags)
                if stop > end:
                    self._data_left, self._data_flags, self._data_stream = length, flags, stream
                    at = start
                    if at == end:
                        break
                    continue
                at = stop
                if stream is not None:
                    if length:
                        stream.on_data(data, start, stop)
                    if flags & END_STREAM:
                        stream.has_ended = True
                        stream.on_end()
                continue
            if length > SMALL_FRAME_BYTES:
                raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "a frame that need not be so large")
            if stop > end:
                break
            at = stop
            self._owner.on_frame(kind, flags, number, data[start:stop])
        if at < end and not self._is_stopped:
            self._rest = data[at:]

    def _begin_padded(self, data: bytes, start: int, length: int, flags: int, number: int) -> None:
        padding = data[start] if length else 0
        if padding >= length:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        stream = self._owner.on_data_frame(number, length, flags)
        self._data_left, self._padding_left = length - 1 - padding, padding
        self._data_flags, self._data_stream = flags, stream
        if not self._data_left and not padding:
            self._end_data()

    def _go_on_with_data(self, data: bytes, at: int) -> int:
        """Take what is there of a DATA frame that was begun, and give where it ends."""
        end = len(data)
        if self._data_left:
            stop = min(at + self._data_left, end)
            if self._data_stream is not None and stop > at:
                self._data_stream.on_data(data, at, stop)
            self._data_left -= stop - at
            at = stop
        if not self._data_left and self._padding_left:
            stop = min(at + self._padding_left, end)
            self._padding_left -= stop - at
            at = stop
        if not self._data_left and not self._padding_left:
            self._end_data()
        return at

    def _end_data(self) -> None:
        stream, self._data_stream = self._data_stream, None
        # It may have been closed since the frame began.
        if self._data_flags & END_STREAM and stream is not None and self._owner.is_open(stream):
            stream.has_ended = True
            stream.on_end()

"""Blocks of headers on their way in: put together from frames, and what they ask for.

Source: RFC 9113, sections 4.3, 6.2 and 6.10.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from .frames import END_HEADERS, HAS_PRIORITY, PADDED, SMALL_FRAME_BYTES, ConnectionFaultError, ErrorCode
from .header_blocks import HeaderBlockError, HeaderDecoder
from .service import Service

#: Blocks of headers whose meaning is kept; a client sends the same few again and again.
_KNOWN_BLOCKS = 128
#: Bytes of such a block.
_KNOWN_BYTES = 512
#: Bytes of priority, which nobody heeds any more.
_PRIORITY_BYTES = 5

T = TypeVar("T")


class HeaderReader(Generic[T]):
    """Reads the headers of one connection.

    Args:
        service: Says what they ask for.
        max_bytes: Bytes that a list of headers may have.

    Attributes:
        open_stream: The stream whose block goes on in the next frame; 0 = none.
    """

    __slots__ = ("_block", "_decoder", "_flags", "_known", "_service", "open_stream")

    def __init__(self, service: Service[T], max_bytes: int) -> None:
        self._service = service
        self._decoder = HeaderDecoder(max_bytes)
        self._known: dict[bytes, T] = {}
        self._block = bytearray()
        self._flags = 0
        self.open_stream = 0

    def begin(self, flags: int, number: int, payload: bytes) -> tuple[int, T] | None:
        """Take a HEADERS frame.

        Returns:
            The frame's flags and what the block asks for; None where the block is not complete.

        Raises:
            ConnectionFaultError: It breaks the rules.
        """
        if not number & 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        if flags & (PADDED | HAS_PRIORITY):
            payload = _unpad(payload, flags)
        if flags & END_HEADERS:
            return flags, self._read(payload)
        self._block, self._flags, self.open_stream = bytearray(payload), flags, number
        return None

    def go_on(self, flags: int, number: int, payload: bytes) -> tuple[int, T] | None:
        """Take a CONTINUATION frame.

        Returns:
            As `begin`, with the flags of the HEADERS frame.

        Raises:
            ConnectionFaultError: It breaks the rules.
        """
        if number == 0 or number != self.open_stream:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block += payload
        if len(self._block) > SMALL_FRAME_BYTES:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "headers without end")
        if not flags & END_HEADERS:
            return None
        block, self._block, self.open_stream = bytes(self._block), bytearray(), 0
        return self._flags, self._read(block)

    def _read(self, block: bytes) -> T:
        known = self._known.get(block)
        if known is not None:
            return known
        decoder = self._decoder
        try:
            headers = decoder.decode(block)
        except HeaderBlockError as fault:
            raise ConnectionFaultError(ErrorCode.COMPRESSION_ERROR, str(fault)) from fault
        asked = self._service.read(headers, is_cut=decoder.is_cut)
        if decoder.is_changed or len(self._known) >= _KNOWN_BLOCKS:
            self._known.clear()
        if not decoder.is_changed and len(block) <= _KNOWN_BYTES:
            self._known[block] = asked
        return asked


def _unpad(payload: bytes, flags: int) -> bytes:
    """Take padding and priority off a HEADERS frame."""
    start, stop = 0, len(payload)
    if flags & PADDED:
        start = 1
        stop -= payload[0] if payload else 0
    if flags & HAS_PRIORITY:
        start += _PRIORITY_BYTES
    if start > stop:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:stop]

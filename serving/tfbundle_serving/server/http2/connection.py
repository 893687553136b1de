"""One HTTP/2 connection: received bytes become streams, whatever the other side sends.

What breaks the rules ends the connection with GOAWAY and the standard's code; what costs the other side nothing and
us something is put up with for a while only (see `patience`).

Source: RFC 9113, sections 3.4, 4 to 6 and 10.5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST,
    LARGEST_FRAME_BYTES,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NUMBER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFaultError,
    ErrorCode,
    frame,
    goaway_frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from .header_blocks import Header, HeaderBlockError, HeaderDecoder
from .outgoing import Outgoing
from .patience import Patience
from .stream import Stream

log = logging.getLogger(__name__)

#: Blocks of headers whose meaning is kept; a client sends the same few again and again.
_KNOWN_BLOCKS = 128
#: Bytes of such a block.
_KNOWN_BYTES = 512
#: Bytes that frames other than DATA may have, and headers over several: what is larger nobody needs, and it is put
#: together from received pieces, each time anew.
_SMALL_FRAME_BYTES = 1 << 16
#: How long a client whose connection ends may take to read what it was told.
_LINGER_S = 5.0
#: How long a client may take to learn that it should open no more streams.
_NOTICE_S = 0.1
_NOTICE_PING = b"goodbye."
_ALIVE_PING = b"alive?.."
#: Frames that are only answers to the other side's, and wait to be read by it, count this often.
_UNREAD_COST = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may do.

    Attributes:
        max_streams: Streams at once. 4096 is more than any client has in flight for long (further calls of a gRPC
            channel wait in the client), and bounds what one connection can make the server remember.
        max_header_bytes: Bytes of a list of headers; as gRPC.
        max_frame_bytes: Bytes of a frame's payload.
    """

    max_streams: int = 4096
    max_header_bytes: int = 16_384
    max_frame_bytes: int = 1 << 20


class Service(Protocol[T]):
    """What is served over connections."""

    def read(self, headers: Sequence[Header], *, is_cut: bool) -> T:
        """Say what a list of headers asks for; asked once for lists that are repeated."""

    def open(self, connection: Connection[T], number: int, asked: T) -> Stream:
        """Make the stream that answers it."""

    def on_made(self, connection: Connection[T]) -> None:
        """Take note of a connection."""

    def on_lost(self, connection: Connection[T]) -> None:
        """Forget a connection."""


class Connection(asyncio.Protocol, Generic[T]):
    """One connection.

    Args:
        service: What is asked.
        limits: Bounds.
        is_acceptable: Asked once whether the transport is one that HTTP/2 may be spoken over.

    Attributes:
        running: Answers that are being worked on, those that nobody waits for any more among them; the service counts.
        outgoing: The sending half.
        is_alive: Set whenever something was received.
    """

    __slots__ = (
        "_begun",
        "_block",
        "_block_flags",
        "_block_stream",
        "_data_flags",
        "_data_left",
        "_data_stream",
        "_decoder",
        "_frame_bytes",
        "_handlers",
        "_is_acceptable",
        "_is_closed",
        "_is_greeted",
        "_is_leaving",
        "_known",
        "_last",
        "_limits",
        "_loop",
        "_notice",
        "_padding_left",
        "_patience",
        "_rest",
        "_service",
        "_streams",
        "_transport",
        "_window",
        "is_alive",
        "outgoing",
        "running",
    )
    _transport: asyncio.Transport
    outgoing: Outgoing

    def __init__(
        self,
        service: Service[T],
        limits: ConnectionLimits,
        is_acceptable: Callable[[asyncio.BaseTransport], bool] = lambda _: True,
    ) -> None:
        self._service = service
        self._limits = limits
        self._is_acceptable = is_acceptable
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {}
        self._decoder = HeaderDecoder(limits.max_header_bytes)
        self._known: dict[bytes, T] = {}
        self._patience = Patience()
        self._rest = b""
        self._last = 0
        self._window = LARGEST
        # Until the client has acknowledged ours it may send by the standard's figures, which are smaller.
        self._frame_bytes = max(limits.max_frame_bytes, DEFAULT_FRAME_BYTES)
        self._data_left = self._padding_left = self._data_flags = 0
        self._data_stream: Stream | None = None
        self._block: bytearray | None = None
        self._block_stream = self._block_flags = 0
        self._is_greeted = self._is_closed = self._is_leaving = self._begun = False
        self._notice: asyncio.TimerHandle | None = None
        self.is_alive = True
        self.running = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.outgoing = Outgoing(self._transport, self._loop, self._on_sent)
        self._service.on_made(self)
        if not self._is_acceptable(transport):
            self._is_closed = True
            transport.close()
            return
        limits = self._limits
        settings = {
            MAX_CONCURRENT_STREAMS: limits.max_streams,
            # Of what is sent for a stream the length is known beforehand and bounded, so no window need bound it.
            INITIAL_WINDOW_SIZE: LARGEST,
            MAX_FRAME_SIZE: self._frame_bytes,
            MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
        }
        self.outgoing.write(settings_frame(settings) + window_frame(0, LARGEST - DEFAULT_WINDOW))

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        if self._is_closed:
            return
        self.is_alive = True
        try:
            self._receive(data)
        except ConnectionFaultError as fault:
            self._end(fault.code, str(fault))
        except Exception:  # the outermost place: the connection ends, the others go on
            log.exception("an HTTP/2 connection failed")
            self._end(ErrorCode.INTERNAL_ERROR, "")

    def eof_received(self) -> bool:
        """Close: who sends no more cannot acknowledge anything either."""
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Let every stream know."""
        self._is_closed = True
        if self._notice is not None:
            self._notice.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            self.outgoing.drop(stream)
            stream.on_closed()
        self._service.on_lost(self)

    def pause_writing(self) -> None:
        """Wait: the other side reads slowly."""
        self.outgoing.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self.outgoing.resume()

    # What the service calls.

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked or answered."""
        return not self._streams

    @property
    def peer(self) -> object:
        """The other side's address, as sockets give it."""
        return self._transport.get_extra_info("peername")

    def leave(self) -> None:
        """Ask the client to open no more streams, answer those that are open, then close."""
        if self._notice is not None or self._is_closed:
            return
        # First the largest number, since streams may be on their way; the last one is said once the client knows.
        self.outgoing.write(goaway_frame(LARGEST, ErrorCode.NO_ERROR) + frame(PING, 0, 0, _NOTICE_PING))
        self._notice = self._loop.call_later(_NOTICE_S, self._last_call)

    def ask_whether_alive(self) -> None:
        """Send something that has to be answered."""
        self.is_alive = False
        self.outgoing.write(frame(PING, 0, 0, _ALIVE_PING))

    def cancel_streams(self) -> None:
        """Ask every stream to end now."""
        for stream in tuple(self._streams.values()):
            stream.on_cancel()

    def abort(self) -> None:
        """Close at once."""
        self._is_closed = True
        self._transport.abort()

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End one stream without an answer."""
        if self._streams.pop(stream.number, None) is not None:
            self.outgoing.drop(stream)
            self.outgoing.write(reset_frame(stream.number, code))
            self._close_if_done()

    def _on_sent(self, stream: Stream) -> None:
        """Forget a stream that is answered; a client that still sends is told that nobody listens."""
        if self._streams.pop(stream.number, None) is not None and not stream.has_ended:
            self.outgoing.write(reset_frame(stream.number, ErrorCode.NO_ERROR))
        if self._is_leaving:
            self._close_if_done()

    # The end.

    def _last_call(self) -> None:
        if not self._is_leaving and not self._is_closed:
            self._is_leaving = True
            self.outgoing.write(goaway_frame(self._last, ErrorCode.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_leaving and not self._streams and not self._is_closed:
            self._close()

    def _end(self, code: ErrorCode, text: str) -> None:
        self.outgoing.write(goaway_frame(self._last, code, text))
        self._close()

    def _close(self) -> None:
        self._is_closed = True
        self._rest = b""
        self.outgoing.flush()
        self._transport.close()
        if self._notice is not None:
            self._notice.cancel()
        self._notice = self._loop.call_later(_LINGER_S, self._transport.abort)

    # Frames.

    def _receive(self, data: bytes) -> None:
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
        while not self._is_closed:
            if self._data_left or self._padding_left:
                at = self._go_on_with_data(data, at)
            if end - at < HEAD_BYTES:
                break
            word, flags, number = HEAD.unpack_from(data, at)
            length, kind = word >> 8, word & 0xFF
            if length > self._frame_bytes:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than SETTINGS_MAX_FRAME_SIZE")
            number &= LARGEST
            start = at + HEAD_BYTES
            stop = start + length
            if kind == DATA and self._begun and self._block is None:
                if flags & PADDED:
                    if start == end and length:
                        break
                    self._begin_padded(data, start, length, flags, number)
                    at = start + 1
                    continue
                stream = self._begin_data(number, length, flags)
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
            if length > _SMALL_FRAME_BYTES:
                raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "a frame that need not be so large")
            if stop > end:
                break
            at = stop
            self._take(kind, flags, number, data[start:stop])
        if at < end and not self._is_closed:
            self._rest = data[at:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Take a frame that is there as a whole."""
        if self._block is not None and (kind != CONTINUATION or number != self._block_stream):
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a frame inside a block of headers")
        if not self._begun:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            self._begun = True
        if kind == HEADERS:
            self._on_headers(flags, number, payload)
            return
        take = _FRAMES.get(kind)
        if kind != WINDOW_UPDATE:  # answers to what we send ourselves
            self._spend(_UNREAD_COST if self.outgoing.is_paused else 1)
        if take is not None:
            take(self, flags, number, payload)

    def _spend(self, cost: int = 1) -> None:
        if self._patience.has_ended(cost):
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def _begin_data(self, number: int, length: int, flags: int) -> Stream | None:
        """Count a DATA frame, and find its stream; None for one that was closed meanwhile."""
        if number == 0 or number > self._last:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that nobody opened")
        self._window -= length
        if self._window < LARGEST >> 1:
            if self._window < 0:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
            self.outgoing.write(window_frame(0, LARGEST - self._window))
            self._window = LARGEST
        stream = self._streams.get(number)
        if length == 0 and not (flags & END_STREAM and stream is not None):
            self._spend()
        if stream is None:
            return None
        if stream.has_ended:
            raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, "DATA behind the end of a stream")
        stream.receive_window -= length
        if stream.receive_window < LARGEST >> 1:
            if stream.receive_window < 0:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
            self.outgoing.write(window_frame(number, LARGEST - stream.receive_window))
            stream.receive_window = LARGEST
        return stream

    def _begin_padded(self, data: bytes, start: int, length: int, flags: int, number: int) -> None:
        padding = data[start] if length else 0
        if padding >= length:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        stream = self._begin_data(number, length, flags)
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
        if self._data_flags & END_STREAM and stream is not None and stream.number in self._streams:
            stream.has_ended = True
            stream.on_end()

    # Headers.

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        if flags & (PADDED | HAS_PRIORITY):
            payload = _unpad(payload, flags)
        if flags & END_HEADERS:
            self._on_block(flags, number, payload)
        else:
            self._block, self._block_stream, self._block_flags = bytearray(payload), number, flags

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block += payload
        if len(self._block) > _SMALL_FRAME_BYTES:
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "headers without end")
        if flags & END_HEADERS:
            block, self._block = bytes(self._block), None
            self._on_block(self._block_flags, number, block)

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        asked = self._known.get(block)
        if asked is None:
            asked = self._read(block)
        if number <= self._last:
            self._on_trailers(flags, number)
            return
        if self._is_leaving:
            # Beyond the last one that is answered: the client tries elsewhere.
            self._spend()
            return
        self._last = number
        if max(len(self._streams), self.running) >= self._limits.max_streams:
            self._spend()
            self.outgoing.write(reset_frame(number, ErrorCode.REFUSED_STREAM))
            return
        stream = self._service.open(self, number, asked)
        self._streams[number] = stream
        stream.has_ended = bool(flags & END_STREAM)
        stream.on_open()
        if flags & END_STREAM and number in self._streams:
            stream.on_end()

    def _read(self, block: bytes) -> T:
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

    def _on_trailers(self, flags: int, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:  # answered or reset while they were on their way
            self._spend()
            return
        if stream.has_ended:
            raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, "HEADERS behind the end of a stream")
        if not flags & END_STREAM:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "trailers that do not end their stream")
        stream.has_ended = True
        stream.on_end()

    # The other kinds.

    def _on_priority(self, _: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        _expect(payload, 5)

    def _on_reset(self, _: int, number: int, payload: bytes) -> None:
        _expect(payload, 4)
        if number == 0 or number > self._last:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on a stream that nobody opened")
        stream = self._streams.pop(number, None)
        if stream is not None:
            self.outgoing.drop(stream)
            stream.on_closed()
            self._close_if_done()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            _expect(payload, 0)
            return
        if len(payload) % SETTING.size:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that are cut off")
        self._spend(len(payload) // SETTING.size)
        for name, value in SETTING.iter_unpack(payload):
            if name == ENABLE_PUSH and value > 1:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
            if name == INITIAL_WINDOW_SIZE:
                self._change_windows(value)
            elif name == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
                    raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE outside its bounds")
                self.outgoing.frame_bytes = value
        self.outgoing.write(frame(SETTINGS, ACK, 0))

    def _change_windows(self, value: int) -> None:
        if value > LARGEST:
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
        # Every open stream is touched.
        self._spend(len(self._streams) // 16)
        by, self.outgoing.initial_window = value - self.outgoing.initial_window, value
        for stream in tuple(self._streams.values()):
            if not self.outgoing.open_window(stream, by):
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")

    def _on_push(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        _expect(payload, 8)
        if number:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if not flags & ACK:
            self.outgoing.write(frame(PING, ACK, 0, payload))
        elif payload == _NOTICE_PING and self._notice is not None:
            self._last_call()

    def _on_goaway(self, _: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY that is cut off")
        # The client opens no more streams; those that are open it wants answered.
        self._is_leaving = True
        self._close_if_done()

    def _on_window(self, _: int, number: int, payload: bytes) -> None:
        _expect(payload, 4)
        credit = NUMBER.unpack(payload)[0] & LARGEST
        if number > self._last:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that nobody opened")
        stream = self._streams.get(number)
        if number == 0:
            if credit == 0:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.outgoing.open_window(None, credit)
        elif stream is not None:
            if credit == 0:
                stream.on_closed()
                self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            elif not self.outgoing.open_window(stream, credit):
                stream.on_closed()
                self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)


#: Kind of frame to what takes it; others are none of ours and are passed over (section 4.1).
_FRAMES: dict[int, Callable[[Connection[Any], int, int, bytes], None]] = {
    PRIORITY: Connection._on_priority,
    RST_STREAM: Connection._on_reset,
    SETTINGS: Connection._on_settings,
    PUSH_PROMISE: Connection._on_push,
    PING: Connection._on_ping,
    GOAWAY: Connection._on_goaway,
    WINDOW_UPDATE: Connection._on_window,
    CONTINUATION: Connection._on_continuation,
}


def _expect(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, f"a payload of {len(payload)} bytes where {size} belong")


def _unpad(payload: bytes, flags: int) -> bytes:
    """Take padding and priority off a HEADERS frame."""
    start, stop = 0, len(payload)
    if flags & PADDED:
        start = 1
        stop -= payload[0] if payload else 0
    if flags & HAS_PRIORITY:
        start += 5
    if start > stop:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:stop]

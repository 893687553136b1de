"""One HTTP/2 connection: received frames become streams, whatever the other side sends.

What breaks the rules ends the connection with GOAWAY and the standard's code; what costs the other side nothing and
us something is put up with for a while only (see `patience`); who reads nothing is not read from.

Source: RFC 9113, sections 4 to 6 and 10.5.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from .control import CONTROLS
from .frames import (
    ACK,
    CONTINUATION,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFaultError,
    ErrorCode,
    frame,
    reset_frame,
    settings_frame,
    window_frame,
)
from .header_reader import HeaderReader
from .incoming import Incoming
from .leaving import Leaving
from .outgoing import Outgoing
from .patience import Patience
from .service import ConnectionLimits, Service
from .stream import Stream

log = logging.getLogger(__name__)

_ALIVE_PING = b"alive?.."
#: Frames that are only answers to the other side's, and wait to be read by it, count this often.
_UNREAD_COST = 10
#: Bytes that may wait for a client that does not read them. Data is bounded by less, so the rest are answers without
#: any, such as refusals, of which a client that goes on asking could pile up any number.
_MOST_UNREAD_BYTES = 1 << 22

T = TypeVar("T")


class Connection(asyncio.Protocol, Generic[T]):
    """One connection.

    Args:
        service: What is asked.
        limits: Bounds.
        is_acceptable: Asked once whether the transport is one that HTTP/2 may be spoken over.

    Attributes:
        running: Answers that are being worked on, those that nobody waits for any more among them; the service counts.
        outgoing: The sending half.
        streams: Those that are open, by number.
        last: The highest stream that the client opened.
        leaving: How it ends.
        is_alive: Set whenever something was received.
        is_closed: Whether nothing is received any more.
    """

    __slots__ = (
        "_begun",
        "_headers",
        "_incoming",
        "_is_acceptable",
        "_is_deaf",
        "_limits",
        "_loop",
        "_patience",
        "_service",
        "_transport",
        "_window",
        "is_alive",
        "is_closed",
        "last",
        "leaving",
        "outgoing",
        "running",
        "streams",
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
        # Until the client has acknowledged ours it may send by the standard's figures, which are smaller.
        self._incoming = Incoming(self, max(limits.max_frame_bytes, DEFAULT_FRAME_BYTES))
        self._headers = HeaderReader(service, limits.max_header_bytes)
        self._patience = Patience()
        self._window = LARGEST
        self._begun = self.is_closed = self._is_deaf = False
        self.leaving = Leaving(self, self._loop)
        self.streams: dict[int, Stream] = {}
        self.last = 0
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
            self.is_closed = True
            transport.close()
            return
        limits = self._limits
        settings = {
            MAX_CONCURRENT_STREAMS: limits.max_streams,
            # Of what is sent for a stream the length is known beforehand and bounded, so no window need bound it.
            INITIAL_WINDOW_SIZE: LARGEST,
            MAX_FRAME_SIZE: max(limits.max_frame_bytes, DEFAULT_FRAME_BYTES),
            MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
        }
        self.outgoing.write(settings_frame(settings) + window_frame(0, LARGEST - DEFAULT_WINDOW))

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        if self.is_closed:
            return
        self.is_alive = True
        try:
            self._incoming.feed(data)
        except ConnectionFaultError as fault:
            self.leaving.fail(fault.code, str(fault))
        except Exception:  # the outermost place: the connection ends, the others go on
            log.exception("an HTTP/2 connection failed")
            self.leaving.fail(ErrorCode.INTERNAL_ERROR, "")
        if self.outgoing.is_paused:
            self._read_less()

    def eof_received(self) -> bool:
        """Close: who sends no more cannot acknowledge anything either."""
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Let every stream know."""
        self._stop()
        self.leaving.stop()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self.outgoing.drop(stream)
            stream.on_closed()
        self._service.on_lost(self)

    def pause_writing(self) -> None:
        """Wait: the other side reads slowly."""
        self.outgoing.pause()

    def resume_writing(self) -> None:
        """Go on."""
        if self._is_deaf:
            self._is_deaf = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        self.outgoing.resume()

    def _read_less(self) -> None:
        """Stop reading where too much waits to be read by the other side."""
        transport = self._transport
        if not self._is_deaf and not transport.is_closing():
            self._is_deaf = transport.get_write_buffer_size() > _MOST_UNREAD_BYTES
            if self._is_deaf:
                transport.pause_reading()

    # What the service calls.

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked or answered."""
        return not self.streams

    @property
    def peer(self) -> object:
        """The other side's address, as sockets give it."""
        return self._transport.get_extra_info("peername")

    def leave(self) -> None:
        """Ask the client to open no more streams, answer those that are open, then close."""
        if not self.is_closed:
            self.leaving.announce()

    def ask_whether_alive(self) -> None:
        """Send something that has to be answered."""
        self.is_alive = False
        self.outgoing.write(frame(PING, 0, 0, _ALIVE_PING))

    def cancel_streams(self) -> None:
        """Ask every stream to end now."""
        for stream in tuple(self.streams.values()):
            stream.on_cancel()

    def close(self) -> None:
        """Close once what was written is read."""
        self._stop()
        self.outgoing.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._stop()
        self._transport.abort()

    def _stop(self) -> None:
        self.is_closed = True
        self._incoming.stop()

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End one stream without an answer."""
        if self.streams.pop(stream.number, None) is not None:
            self.outgoing.drop(stream)
            self.outgoing.write(reset_frame(stream.number, code))
            self.leaving.close_if_done()

    def _on_sent(self, stream: Stream) -> None:
        """Forget a stream that is answered; a client that still sends is told that nobody listens."""
        if self.streams.pop(stream.number, None) is not None and not stream.has_ended:
            self.outgoing.write(reset_frame(stream.number, ErrorCode.NO_ERROR))
        if self.leaving.has_begun:
            self.leaving.close_if_done()

    # What comes in (`incoming.Owner`).

    def is_open(self, stream: Stream) -> bool:
        """Tell whether a stream has not been closed."""
        return stream.number in self.streams

    def on_data_frame(self, number: int, length: int, flags: int) -> Stream | None:
        """Count a DATA frame, and find its stream; None for one that was closed meanwhile."""
        if self._headers.open_stream:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a frame inside a block of headers")
        if number == 0 or number > self.last:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that nobody opened")
        self._window -= length
        if self._window < LARGEST >> 1:
            if self._window < 0:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "more data than the connection's window")
            self.outgoing.write(window_frame(0, LARGEST - self._window))
            self._window = LARGEST
        stream = self.streams.get(number)
        if length == 0 and not (flags & END_STREAM and stream is not None):
            self.spend()
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

    def on_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Take a frame that is there as a whole."""
        if self._headers.open_stream and kind != CONTINUATION:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "a frame inside a block of headers")
        if not self._begun:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "the first frame is no SETTINGS")
            self._begun = True
        if kind == HEADERS:
            found = self._headers.begin(flags, number, payload)
            if found is not None:
                self._on_headers(number, *found)
            return
        if kind != WINDOW_UPDATE:  # answers to what we send ourselves
            self.spend(_UNREAD_COST if self.outgoing.is_paused else 1)
        if kind == CONTINUATION:
            found = self._headers.go_on(flags, number, payload)
            if found is not None:
                self._on_headers(number, *found)
            return
        take = CONTROLS.get(kind)
        if take is not None:
            take(self, flags, number, payload)

    def _on_headers(self, number: int, flags: int, asked: T) -> None:
        if number <= self.last:
            self._on_trailers(number, flags)
            return
        self.last = number
        if self.leaving.has_begun:
            # Beyond the last one that is answered: the client tries elsewhere.
            self.spend()
            return
        if max(len(self.streams), self.running) >= self._limits.max_streams:
            self.spend()
            self.outgoing.write(reset_frame(number, ErrorCode.REFUSED_STREAM))
            return
        stream = self._service.open(self, number, asked)
        self.streams[number] = stream
        stream.has_ended = bool(flags & END_STREAM)
        stream.on_open()
        if flags & END_STREAM and number in self.streams:
            stream.on_end()

    def _on_trailers(self, number: int, flags: int) -> None:
        stream = self.streams.get(number)
        if stream is None:  # answered or reset while they were on their way
            self.spend()
            return
        if stream.has_ended:
            raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, "HEADERS behind the end of a stream")
        if not flags & END_STREAM:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "trailers that do not end their stream")
        stream.has_ended = True
        stream.on_end()

    # What control frames do (`control`).

    def spend(self, cost: int = 1) -> None:
        """Count a frame that asks for nothing.

        Raises:
            ConnectionFaultError: It was one too many.
        """
        if self._patience.has_ended(cost):
            raise ConnectionFaultError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def forget(self, number: int) -> None:
        """Let a stream go that the client wants no answer of."""
        stream = self.streams.pop(number, None)
        if stream is not None:
            self.outgoing.drop(stream)
            stream.on_closed()
            self.leaving.close_if_done()

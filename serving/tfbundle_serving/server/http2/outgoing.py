"""What a connection sends: at most what the other side takes, and one write for all that is ready in a loop's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LARGEST,
    ConnectionFaultError,
    ErrorCode,
)
from .stream import Stream

#: Data that one stream sends before the next has its turn.
_TURN_BYTES = 1 << 20
#: Pieces of more bytes than this are handed over as they are; below it, joining costs less.
_JOINED_BYTES = 1 << 16


class Outgoing:
    """The sending half of a connection.

    Args:
        transport: Where to.
        loop: The event loop.
        on_sent: Told when a stream's last frame is on its way.

    Attributes:
        window: Bytes of data that the other side takes on all streams together.
        initial_window: The same for a stream that opens now.
        frame_bytes: Bytes that a frame's payload may have.
        is_paused: Whether the other side reads too slowly for more to be handed over.
    """

    __slots__ = (
        "_loop",
        "_on_sent",
        "_pieces",
        "_transport",
        "_waiting",
        "frame_bytes",
        "initial_window",
        "is_paused",
        "window",
    )

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        loop: asyncio.AbstractEventLoop,
        on_sent: Callable[[Stream], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._on_sent = on_sent
        self._pieces: list[bytes] = []
        #: Those that have data and whose own window is open.
        self._waiting: dict[int, Stream] = {}
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.frame_bytes = DEFAULT_FRAME_BYTES
        self.is_paused = False

    def write(self, piece: bytes) -> None:
        """Send frames that no window bounds."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(piece)

    def flush(self) -> None:
        """Hand over what was written."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            if not self._transport.is_closing():
                self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def answer(self, stream: Stream, headers: bytes, prefix: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole answer: a block of headers, data, a block of trailers."""
        number = stream.number
        size = len(prefix) + len(body)
        is_free = size <= self.window and size <= stream.send_window and not self.is_paused and not self._waiting
        if is_free and size <= self.frame_bytes and size <= _JOINED_BYTES:
            self.window -= size
            pack = HEAD.pack
            self.write(
                b"".join(
                    (
                        pack(len(headers) << 8 | HEADERS, END_HEADERS, number),
                        headers,
                        pack(size << 8, 0, number),
                        prefix,
                        body,
                        pack(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, number),
                        trailers,
                    )
                )
            )
            self._on_sent(stream)
            return
        self.headers(stream, headers)
        self.data(stream, prefix, body)
        self.end(stream, trailers)

    def headers(self, stream: Stream, block: bytes) -> None:
        """Send headers."""
        self.write(HEAD.pack(len(block) << 8 | HEADERS, END_HEADERS, stream.number) + block)

    def data(self, stream: Stream, *pieces: bytes) -> None:
        """Send data, as soon as the other side takes it."""
        if stream.pending is None:
            stream.pending = []
        stream.pending += [memoryview(piece) for piece in pieces if piece]
        if stream.pending and stream.send_window > 0:
            self._waiting[stream.number] = stream
            self.pump()

    def end(self, stream: Stream, trailers: bytes) -> None:
        """Send trailers once all data is sent; the stream ends with them."""
        block = HEAD.pack(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, stream.number) + trailers
        if stream.pending:
            stream.trailers = block
        else:
            self.write(block)
            self._on_sent(stream)

    def drop(self, stream: Stream) -> None:
        """Send no more of a stream."""
        stream.pending = stream.trailers = None
        self._waiting.pop(stream.number, None)
        _wake(stream)

    def pause(self) -> None:
        """Hand nothing more over for now."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        self.pump()

    def open_window(self, stream: Stream | None, credit: int) -> bool:
        """Take note that the other side takes more, on a stream or on the whole connection (None).

        Returns:
            Whether the window is not larger than it may be; a connection's is refused with an error.

        Raises:
            ConnectionFaultError: The connection's window is larger than it may be.
        """
        if stream is None:
            was_shut = self.window <= 0
            self.window += credit
            if self.window > LARGEST:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
            if was_shut:
                self.pump()
            return True
        stream.send_window += credit
        if stream.pending and stream.send_window > 0:
            self._waiting[stream.number] = stream
            self.pump()
        return stream.send_window <= LARGEST

    def pump(self) -> None:
        """Send what waits, the streams in turn, until a window is shut or the other side reads too slowly."""
        has_moved = True
        while has_moved and self._waiting and self.window > 0:
            has_moved = False
            for stream in tuple(self._waiting.values()):
                if self.is_paused or self.window <= 0:
                    return
                has_moved = self._send_some(stream) or has_moved

    def _send_some(self, stream: Stream) -> bool:
        pending = stream.pending
        allowed = min(stream.send_window, self.window, _TURN_BYTES)
        if not pending or allowed <= 0:
            return False
        pieces: list[bytes | memoryview] = []
        left = allowed
        while pending and left > 0:
            piece = pending[0]
            size = min(len(piece), left, self.frame_bytes)
            pieces += (HEAD.pack(size << 8, 0, stream.number), piece[:size])
            if size == len(piece):
                del pending[0]
            else:
                pending[0] = piece[size:]
            left -= size
        sent = allowed - left
        self.window -= sent
        stream.send_window -= sent
        if sent <= _JOINED_BYTES:
            self.write(b"".join(pieces))
        else:
            self.flush()
            if not self._transport.is_closing():
                self._transport.writelines(pieces)
        if not pending or stream.send_window <= 0:
            # Those whose own window is shut are not looked at until it opens.
            del self._waiting[stream.number]
        if not pending:
            if stream.trailers is not None:
                self.write(stream.trailers)
                self._on_sent(stream)
            _wake(stream)
        return True


def _wake(stream: Stream) -> None:
    drained, stream.drained = stream.drained, None
    if drained is not None and not drained.done():
        drained.set_result(None)

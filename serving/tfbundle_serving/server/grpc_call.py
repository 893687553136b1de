"""One gRPC call: from the stream that brings a message to the handler, and from its reply to the stream.

Source: grpc's PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import (
    ApiError,
    DeadlineExceeded,
    DecodeError,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from tfbundle_serving.apis.wire import Readable

from .grpc_messages import MessageReader, inflate
from .grpc_status import OK, OPENING, as_api_error, failed, refused
from .http2.frames import ErrorCode
from .http2.stream import Stream

if TYPE_CHECKING:
    from .grpc_heads import Head
    from .grpc_server import GrpcServer
    from .http2.connection import Connection

log = logging.getLogger(__name__)

_PREFIX = Struct(">BI")
#: Compressed messages of more bytes than this are inflated on a thread.
_INFLATED_ASIDE_BYTES = 1 << 14


class GrpcCall(Stream):
    """One call.

    Args:
        server: Keeps account of it.
        connection: Carries it.
        number: Its stream.
        head: What its headers say.
    """

    __slots__ = (
        "_deadline",
        "_failure",
        "_head",
        "_is_closed",
        "_is_running",
        "_message",
        "_reader",
        "_server",
        "_task",
        "has_expired",
    )

    def __init__(self, server: GrpcServer, connection: Connection[Head], number: int, head: Head) -> None:
        super().__init__(connection, number, connection.outgoing.initial_window)
        self._server = server
        self._head = head
        self._reader = MessageReader(server.limits.max_request_bytes)
        self._message: Readable = b""
        self._failure: ApiError | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = self._is_running = False
        self._deadline: float | None = None
        self.has_expired = False

    # What a handler sees.

    @property
    def bytes_in(self) -> int:
        """Bytes of the request's message, as far as it came; inflated, if it was."""
        return len(self._message) or self._reader.received

    def message(self) -> Readable:
        """Give the request's message.

        Raises:
            ApiError: There is none that could be read.
        """
        if self._failure is not None:
            raise self._failure
        return self._message

    def time_remaining(self) -> float | None:
        """Give the seconds that the client still waits; None means for ever."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def peer(self) -> str:
        """Give the client's address, "127.0.0.1:5" or "unix:"."""
        peer: Any = self.connection.peer
        if not isinstance(peer, tuple):
            return f"unix:{peer or ''}"
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"

    # What the connection tells.

    def on_open(self) -> None:
        """Begin."""
        head = self._head
        if head.refusal is not None:
            self.connection.outgoing.end(self, head.refusal)
        elif head.is_malformed:
            self.connection.reset(self, ErrorCode.PROTOCOL_ERROR)
        else:
            if head.timeout_s is not None:
                self._deadline = time.monotonic() + head.timeout_s
                self._server.timed.add(self)
            if head.error is not None:
                self._failure = head.error
                self._start()
            elif not head.method.takes_message:
                self._start()

    def on_data(self, data: bytes, at: int, stop: int) -> None:
        """Gather the message; the call is answered once it is there."""
        if self._task is not None or self._is_closed:
            return
        try:
            if not self._reader.feed(data, at, stop):
                return
            assert self._reader.message is not None
            self._message = self._reader.message
            if self._reader.is_compressed and self._head.encoding is None:
                raise Internal("a compressed message in a call without grpc-encoding")
        except ApiError as error:
            self._failure = error
        self._start()

    def on_end(self) -> None:
        """Answer what came without a message, too."""
        if self._task is None and not self._is_closed:
            # grpcpp/impl/proto_utils.h says it so.
            self._failure = Internal("the message is cut off" if self._reader.has_begun else "No payload")
            self._start()

    def on_closed(self) -> None:
        """Stop: nobody waits for the answer."""
        self._is_closed = True
        self._server.timed.discard(self)
        if self._task is not None:
            self._task.cancel()

    # What the server tells.

    def expire_if_due(self, now: float) -> None:
        """End a call whose time is up."""
        if self._deadline is None or now < self._deadline or (self._task is not None and not self._is_running):
            return  # a task that is cancelled before it begins could not answer
        self._server.timed.discard(self)
        self.has_expired = True
        if self._task is not None:
            self._task.cancel()
        elif not self._is_closed:  # its message is still on its way
            self._failure = DeadlineExceeded("Deadline Exceeded")
            self._start()

    def on_cancel(self) -> None:
        """Stop: the server ends."""
        if self._task is not None:
            self._task.cancel()
        elif not self._is_closed:
            self._fail(Unavailable("the server is shutting down"))

    # The answer.

    def _start(self) -> None:
        self._task = self._server.loop.create_task(self._run())

    async def _run(self) -> None:
        self._is_running = True
        self.connection.running += 1
        try:
            if self._reader.is_compressed and self._failure is None:
                await self._inflate()
            method = self._head.method
            if method.handler is not None:
                self._reply(await method.handler(self))
            else:
                await self._stream()
        except asyncio.CancelledError:
            late = DeadlineExceeded("Deadline Exceeded")
            self._fail(late if self.has_expired else Unavailable("the server is shutting down"))
        except Exception as error:
            if not isinstance(error, ApiError | DecodeError):  # the outermost place: logged once, answered as our fault
                log.error("a gRPC request failed", exc_info=error)
            self._fail(as_api_error(error))
        finally:
            self.connection.running -= 1
            self._server.timed.discard(self)
            self._message = b""

    def _reply(self, reply: bytes) -> None:
        if self._is_closed:
            return
        limit = self._server.limits.max_reply_bytes
        if limit is not None and len(reply) > limit:
            raise ResourceExhausted(f"Sent message larger than max ({len(reply)} vs. {limit})")
        self.connection.outgoing.answer(self, OPENING, _PREFIX.pack(0, len(reply)), reply, OK)

    async def _stream(self) -> None:
        streams = self._head.method.streams
        assert streams is not None
        outgoing = self.connection.outgoing
        async for reply in streams(self):
            if self._is_closed:
                return
            if self.pending is None:
                outgoing.headers(self, OPENING)
            outgoing.data(self, _PREFIX.pack(0, len(reply)), reply)
            if self.pending:
                self.drained = self._server.loop.create_future()
                await self.drained
        if self.pending is None:
            outgoing.headers(self, OPENING)
        outgoing.end(self, OK)

    def _fail(self, error: ApiError) -> None:
        if not self._is_closed:
            self._is_closed = True
            # Once a message was sent its headers were, too.
            self.connection.outgoing.end(self, refused(error) if self.pending is None else failed(error))

    async def _inflate(self) -> None:
        encoding = self._head.encoding
        assert encoding is not None
        limit = self._server.limits.max_request_bytes
        try:
            if len(self._message) > _INFLATED_ASIDE_BYTES:
                task = partial(inflate, self._message, encoding, limit)
                self._message = await self._server.loop.run_in_executor(None, task)
            else:
                self._message = inflate(self._message, encoding, limit)
        except ApiError as error:
            self._failure = error

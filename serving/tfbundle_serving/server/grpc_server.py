"""The gRPC server: connections of any number of listening sockets, on the running event loop.

It is ours, since grpc's own server for Python costs most of a small request. Measured on two cores, one channel with 64
calls in flight, the load generator beside it, a constant for an answer: 13 to 26 us of processor time a call and 10,000
to 26,000 calls a second; grpc.aio 130 to 160 us, 7,000 to 8,800.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence

from .grpc_call import GrpcCall
from .grpc_heads import Head, read_head
from .grpc_methods import Find
from .grpc_options import GrpcLimits
from .http2.connection import Connection
from .http2.header_blocks import Header
from .tls import HTTP2

log = logging.getLogger(__name__)

#: How often deadlines are looked at; what runs a model keeps its own time, exactly.
_LOOK_S = 0.05
#: How long calls may take to end once they are cancelled.
_CANCEL_S = 2.0


class GrpcServer:
    """Answers gRPC.

    Args:
        find: Finds the method of each call.
        limits: Bounds.
        backlog: Connections that may wait to be accepted.

    Attributes:
        loop: The event loop.
        limits: Bounds.
        timed: Calls with a deadline.
    """

    def __init__(self, find: Find, limits: GrpcLimits, *, backlog: int = 2048) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.timed: set[GrpcCall] = set()
        self._find = find
        self._backlog = backlog
        self._connections: dict[Connection[Head], _Age] = {}
        self._listening: list[asyncio.AbstractServer] = []
        self._is_leaving = False
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._clock: asyncio.TimerHandle | None = None
        self._chores: asyncio.TimerHandle | None = None

    # Connections.

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a bound socket, which is the server's from now on."""

        def make() -> Connection[Head]:
            return Connection(self, self.limits.connection, is_acceptable)

        def is_acceptable(transport: asyncio.BaseTransport) -> bool:
            session = transport.get_extra_info("ssl_object")
            return tls is None or (session is not None and session.selected_alpn_protocol() == HTTP2)

        is_path = listener.family == getattr(socket, "AF_UNIX", None)
        create = self.loop.create_unix_server if is_path else self.loop.create_server
        self._listening.append(await create(make, sock=listener, ssl=tls, backlog=self._backlog))
        if self._clock is None:
            self._look_at_deadlines()
            self._do_chores()

    async def close(self, grace_s: float) -> None:
        """Accept nothing more, let calls under way finish, and cancel those that take longer than allowed."""
        self._is_leaving = True
        for each in self._listening:
            each.close()
        for connection in tuple(self._connections):
            connection.leave()
        if not await self._wait(grace_s):
            calls = sum(connection.running for connection in self._connections)
            if calls:
                log.warning("%d gRPC calls took longer than %g s and were dropped", calls, grace_s)
            for connection in tuple(self._connections):
                connection.cancel_streams()
            await self._wait(_CANCEL_S)
        for connection in tuple(self._connections):
            connection.abort()
        for timer in (self._clock, self._chores):
            if timer is not None:
                timer.cancel()

    async def _wait(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._all_gone.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    # What connections ask (`http2.service.Service`).

    def read(self, headers: Sequence[Header], *, is_cut: bool) -> Head:
        """Say what a list of headers asks for."""
        return read_head(headers, self._find, cut_at=self.limits.connection.max_header_bytes if is_cut else None)

    def open(self, connection: Connection[Head], number: int, asked: Head) -> GrpcCall:
        """Make a call."""
        return GrpcCall(self, connection, number, asked)

    def on_made(self, connection: Connection[Head]) -> None:
        """Take note of a connection."""
        self._connections[connection] = _Age(time.monotonic())
        self._all_gone.clear()
        if self._is_leaving:
            connection.leave()

    def on_lost(self, connection: Connection[Head]) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._all_gone.set()

    # What is done at intervals.

    def _look_at_deadlines(self) -> None:
        if self.timed:
            now = time.monotonic()
            for call in tuple(self.timed):
                call.expire_if_due(now)
        self._clock = self.loop.call_later(_LOOK_S, self._look_at_deadlines)

    def _do_chores(self) -> None:
        limits = self.limits
        times = (limits.idle_s, limits.age_s, limits.age_grace_s, limits.keepalive_s, limits.keepalive_timeout_s)
        now = time.monotonic()
        for connection, age in tuple(self._connections.items()):
            age.look(connection, now, limits)
        interval = min(10.0, *(each / 4 for each in times if each)) if any(times) else 10.0
        self._chores = self.loop.call_later(max(interval, 0.01), self._do_chores)


class _Age:
    """How old a connection is, and how long it has been idle or silent.

    Args:
        now: When it was made.
    """

    __slots__ = ("_asked", "_busy", "_heard", "_last", "_left", "_made")

    def __init__(self, now: float) -> None:
        self._made = self._busy = self._heard = now
        self._asked: float | None = None
        self._left: float | None = None
        self._last = 0

    def look(self, connection: Connection[Head], now: float, limits: GrpcLimits) -> None:
        """End a connection that is too old, idle for too long, or dead."""
        if connection.is_alive:
            self._heard, self._asked, connection.is_alive = now, None, False
        elif self._asked is not None and now - self._asked >= limits.keepalive_timeout_s:
            connection.abort()
            return
        elif self._asked is None and limits.keepalive_s is not None and now - self._heard >= limits.keepalive_s:
            self._asked = now
            connection.ask_whether_alive()
        if not connection.is_idle or connection.last != self._last:  # short calls are over when they are looked for
            self._busy, self._last = now, connection.last
        is_old = limits.age_s is not None and now - self._made >= limits.age_s
        if self._left is None and (is_old or (limits.idle_s is not None and now - self._busy >= limits.idle_s)):
            self._left = now
            connection.leave()
        elif self._left is not None and limits.age_grace_s is not None and now - self._left >= limits.age_grace_s:
            connection.abort()

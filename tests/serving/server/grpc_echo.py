"""A gRPC server without models, for tests of the protocol: it echoes, waits, fails and streams."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.server.grpc_methods import Call, Method, find_in
from tfbundle_serving.server.grpc_options import Option, read_options
from tfbundle_serving.server.grpc_server import GrpcServer
from tfbundle_serving.server.http2 import connection
from tfbundle_serving.server.listening import bind
from tfbundle_serving.server.loop_thread import LoopThread


@dataclass
class Echo:
    """The server, where it listens, and what it has seen.

    Attributes:
        loop: Runs it.
        server: The server.
        port: Where it listens.
        begun: Calls of Wait that began.
        cancelled: Calls of Wait that were cancelled.
        remaining: What the last call of Wait had left, in seconds.
        faults: What the event loop complained of, and connections that ended by a fault of ours.
    """

    loop: LoopThread
    server: GrpcServer
    port: int
    begun: int = 0
    cancelled: int = 0
    remaining: float | None = None
    may_end: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Address as grpc spells it."""
        return f"127.0.0.1:{self.port}"

    def connections(self) -> int:
        """Count the connections."""
        return len(self.server._connections)

    def methods(self) -> dict[str, Method]:
        """Give what is served."""
        return {
            "/t/Echo": Method(handler=self._echo),
            "/t/Wait": Method(handler=self._wait),
            "/t/Fail": Method(handler=self._fail),
            "/t/Large": Method(handler=self._large),
            "/t/Count": Method(streams=self._count),
        }

    async def _echo(self, call: Call) -> bytes:
        return bytes(call.message())

    async def _wait(self, call: Call) -> bytes:
        call.message()
        self.begun += 1
        self.remaining = call.time_remaining()
        try:
            while not self.may_end.is_set():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"waited"

    async def _fail(self, call: Call) -> bytes:
        message = bytes(call.message())
        if message:
            raise InvalidArgument(message.decode())
        raise ZeroDivisionError("a fault of ours")

    async def _large(self, call: Call) -> bytes:
        return bytes(int(bytes(call.message())))

    async def _count(self, call: Call) -> AsyncIterator[bytes]:
        for number in range(int(bytes(call.message()))):
            yield str(number).encode()
        raise InvalidArgument("no more")


@contextmanager
def echo_server(*options: Option, tls: ssl.SSLContext | None = None) -> Iterator[Echo]:
    """Run the server for the length of a block."""
    loop = LoopThread()
    made: dict[str, Any] = {}

    async def open_server() -> Echo:
        echo = Echo(loop, GrpcServer(lambda asked: made["find"](asked), read_options(options)), 0)
        made["find"] = find_in(echo.methods())
        listener: socket.socket = bind("127.0.0.1", 0, "port")
        await echo.server.listen(listener, tls)
        echo.port = listener.getsockname()[1]
        asyncio.get_running_loop().set_exception_handler(lambda _, what: echo.faults.append(str(what)))
        return echo

    echo = loop.run(open_server())
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: echo.faults.append(record.getMessage())  # type: ignore[method-assign]
    connection.log.addHandler(handler)
    try:
        yield echo
        assert not echo.faults, echo.faults[:3]
    finally:
        connection.log.removeHandler(handler)
        loop.run(echo.server.close(1.0))
        loop.stop()

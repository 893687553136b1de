"""The two listeners: a gRPC server and uvicorn, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import grpc.aio
import uvicorn

from .grpc_api import GrpcApi, server_options
from .listening import BACKLOG, PortUnavailableError, target
from .rest_api import RestApi
from .settings import ServerSettings

log = logging.getLogger(__name__)

#: TensorFlow Serving never closes an idle connection; uvicorn wants a number of seconds.
_KEEP_ALIVE_S = 24 * 3600
#: How long requests that were under way may take once the time for that is up and they were cancelled.
_CANCEL_S = 2.0


class Listeners:
    """What listens.

    Args:
        settings: Host, ports and options.
        grpc_api: Answers gRPC.
        rest_api: Answers REST.

    Attributes:
        grpc_port: The gRPC port; 0 where there is none.
        rest_port: The REST port; 0 where there is none.
    """

    def __init__(self, settings: ServerSettings, *, grpc_api: GrpcApi, rest_api: RestApi) -> None:
        self.grpc_port = 0
        self.rest_port = 0
        self._settings = settings
        self._grpc_api = grpc_api
        self._rest_api = rest_api
        self._grpc: grpc.aio.Server | None = None
        self._rest: uvicorn.Server | None = None
        self._rest_task: asyncio.Task[None] | None = None

    async def open(self, rest_socket: socket.socket | None) -> None:
        """Listen on every port of the settings, gRPC before REST.

        Args:
            rest_socket: Bound, not yet listening; None where REST is off.

        Raises:
            PortUnavailableError: The gRPC port was taken in the meantime, or the UNIX socket cannot be made.
        """
        if self._settings.grpc_port is not None or self._settings.grpc_socket_path:
            await self._open_grpc()
        if rest_socket is not None:
            await self._open_rest(rest_socket)

    async def close(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way finish, and cancel those that take longer than allowed."""
        closing = []
        if self._grpc is not None:
            closing.append(self._grpc.stop(grace_s))
        if self._rest is not None and self._rest_task is not None:
            closing.append(_close_rest(self._rest, self._rest_task, grace_s))
        await asyncio.gather(*closing)

    async def _open_grpc(self) -> None:
        settings = self._settings
        self._grpc = grpc.aio.server(options=server_options(settings.grpc_options))
        self._grpc.add_generic_rpc_handlers(self._grpc_api.handlers())
        if settings.grpc_port is not None:
            self.grpc_port = _add(self._grpc, target(settings.host, settings.grpc_port), "port")
        if settings.grpc_socket_path:
            _add(self._grpc, f"unix:{settings.grpc_socket_path}", "grpc_socket_path")
        await self._grpc.start()

    async def _open_rest(self, rest_socket: socket.socket) -> None:
        config = uvicorn.Config(
            self._rest_api,
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._rest = uvicorn.Server(config)
        self._rest_task = asyncio.create_task(self._rest.serve(sockets=[rest_socket]))
        while not self._rest.started:
            if self._rest_task.done():
                await self._rest_task
                raise PortUnavailableError("the REST server ended before it listened")
            await asyncio.sleep(0.002)
        self.rest_port = rest_socket.getsockname()[1]


def _add(server: grpc.aio.Server, address: str, flag: str) -> int:
    try:
        return int(server.add_insecure_port(address))
    except RuntimeError as error:
        raise PortUnavailableError(f"cannot listen on {address}: {error}; choose another with --{flag}") from error


async def _close_rest(server: uvicorn.Server, task: asyncio.Task[None], grace_s: float) -> None:
    server.should_exit = True
    _, pending = await asyncio.wait({task}, timeout=grace_s)
    if pending:
        log.warning("REST requests took longer than %g s and were dropped", grace_s)
        server.force_exit = True
        tasks: set[asyncio.Task[Any]] = set(server.server_state.tasks)
        for each in tasks:
            each.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_S)

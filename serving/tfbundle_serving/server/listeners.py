"""The two listeners: our gRPC server and uvicorn, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

from . import grpc_layers
from .access_log import AccessLog
from .api_key import ApiKeys
from .grpc_api import GrpcApi
from .grpc_methods import find_in
from .grpc_options import read_options
from .grpc_server import GrpcServer
from .health import Health
from .health_service import HealthService
from .listening import BACKLOG, PortUnavailableError, allow_many_connections, bind_path, release_path
from .rest_api import RestApi
from .rest_layers import App, with_bound, with_cors, with_health, with_keys, with_log
from .rest_protocol import RestProtocol
from .settings import ServerSettings
from .tls import grpc_context, ssl_context

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
        health: Answers health checks over both.

    Raises:
        InvalidArgument: Key and certificate for TLS are not a pair.

    Attributes:
        grpc_port: The gRPC port; 0 where there is none.
        rest_port: The REST port; 0 where there is none.
    """

    def __init__(self, settings: ServerSettings, *, grpc_api: GrpcApi, rest_api: RestApi, health: Health) -> None:
        self.grpc_port = 0
        self.rest_port = 0
        self._settings = settings
        self._grpc_api = grpc_api
        self._rest_api = rest_api
        self._health = health
        self._keys = ApiKeys(settings.api_keys) if settings.api_keys else None
        self._log = AccessLog(sys.stdout) if settings.access_log else None
        # Made now, so that a bad certificate is reported before models are loaded.
        self._grpc_tls = grpc_context(settings.ssl) if settings.ssl else None
        self._rest_tls = ssl_context(settings.rest_ssl) if settings.rest_ssl else None
        self._grpc: GrpcServer | None = None
        self._socket_file: os.stat_result | None = None
        self._rest: uvicorn.Server | None = None
        self._rest_task: asyncio.Task[None] | None = None

    async def open(
        self,
        grpc_socket: socket.socket | None,
        rest_socket: socket.socket | None,
        path_socket: socket.socket | None = None,
    ) -> None:
        """Listen, gRPC before REST.

        Args:
            grpc_socket: Bound, not yet listening; None where there is no port for gRPC.
            rest_socket: The same for REST.
            path_socket: The same for the UNIX socket where it is shared; None = it is made where the settings name one.

        Raises:
            PortUnavailableError: The UNIX socket cannot be made.
        """
        allow_many_connections()
        if self._log is not None:
            self._log.start()
        if grpc_socket is not None or self._settings.grpc_socket_path:
            await self._open_grpc(grpc_socket, path_socket)
        if rest_socket is not None:
            await self._open_rest(rest_socket)

    async def close(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way finish, and cancel those that take longer than allowed."""
        # Who watches the health would otherwise be waited for.
        self._health.stop()
        closing = []
        if self._grpc is not None:
            closing.append(self._grpc.close(grace_s))
        if self._rest is not None and self._rest_task is not None:
            closing.append(_close_rest(self._rest, self._rest_task, grace_s))
        await asyncio.gather(*closing)
        if self._socket_file is not None:
            release_path(self._settings.grpc_socket_path, self._socket_file)
        if self._log is not None:
            await asyncio.to_thread(self._log.stop)

    async def _open_grpc(self, grpc_socket: socket.socket | None, path_socket: socket.socket | None) -> None:
        settings = self._settings
        health = HealthService(self._health)
        methods = self._grpc_api.methods() | health.listing()
        if settings.health_service:
            methods |= health.methods()
        find = find_in(methods)
        if self._keys is not None:
            find = grpc_layers.with_keys(find, self._keys)
        if self._log is not None:
            find = grpc_layers.with_log(find, self._log)
        limits = read_options(settings.grpc_options, settings.max_request_bytes)
        self._grpc = GrpcServer(find, limits, backlog=BACKLOG)
        if grpc_socket is not None:
            await self._grpc.listen(grpc_socket, self._grpc_tls)
            self.grpc_port = grpc_socket.getsockname()[1]
        if settings.grpc_socket_path:
            if path_socket is None:
                path_socket = bind_path(settings.grpc_socket_path, "grpc_socket_path")
                self._socket_file = Path(settings.grpc_socket_path).stat()
            await self._grpc.listen(path_socket, self._grpc_tls)

    async def _open_rest(self, rest_socket: socket.socket) -> None:
        config = uvicorn.Config(
            self._rest_app(),
            interface="asgi3",
            http=RestProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        config.load()
        config.ssl = self._rest_tls
        self._rest = uvicorn.Server(config)
        self._rest_task = asyncio.create_task(self._rest.serve(sockets=[rest_socket]))
        while not self._rest.started:
            if self._rest_task.done():
                await self._rest_task
                raise PortUnavailableError("the REST server ended before it listened")
            await asyncio.sleep(0.002)
        self.rest_port = rest_socket.getsockname()[1]

    def _rest_app(self) -> App:
        """Put what the settings ask for around the REST API; the last stands outermost."""
        app = with_bound(self._rest_api, self._settings.max_request_bytes)
        if self._keys is not None:
            app = with_keys(app, self._keys)
        app = with_health(app, self._health)
        if self._settings.cors:
            app = with_cors(app, asks_for_key=self._keys is not None)
        return app if self._log is None else with_log(app, self._log)


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

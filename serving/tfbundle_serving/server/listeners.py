"""The two listeners: a gRPC server and uvicorn, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import grpc.aio
import uvicorn

from .access_log import AccessLog
from .api_key import ApiKeys
from .grpc_api import GrpcApi, server_options
from .grpc_interceptors import KeyInterceptor, LogInterceptor
from .health import Health
from .health_service import HealthService
from .listening import BACKLOG, PortUnavailableError, allow_many_connections, target
from .rest_api import RestApi
from .rest_layers import App, with_bound, with_health, with_keys, with_log
from .rest_protocol import RestProtocol
from .settings import ServerSettings
from .tls import grpc_credentials, ssl_context

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
        self._grpc_credentials = grpc_credentials(settings.ssl) if settings.ssl else None
        self._rest_tls = ssl_context(settings.rest_ssl) if settings.rest_ssl else None
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
        allow_many_connections()
        if self._log is not None:
            self._log.start()
        if self._settings.grpc_port is not None or self._settings.grpc_socket_path:
            await self._open_grpc()
        if rest_socket is not None:
            await self._open_rest(rest_socket)

    async def close(self, grace_s: float) -> None:
        """Accept nothing more, let requests under way finish, and cancel those that take longer than allowed."""
        # Who watches the health would otherwise be waited for.
        self._health.stop()
        closing = []
        if self._grpc is not None:
            closing.append(self._grpc.stop(grace_s))
        if self._rest is not None and self._rest_task is not None:
            closing.append(_close_rest(self._rest, self._rest_task, grace_s))
        await asyncio.gather(*closing)
        if self._log is not None:
            await asyncio.to_thread(self._log.stop)

    async def _open_grpc(self) -> None:
        settings = self._settings
        options = server_options(settings.grpc_options, max_bytes=settings.max_request_bytes)
        interceptors: list[grpc.aio.ServerInterceptor] = []
        if self._log is not None:
            interceptors.append(LogInterceptor(self._log))
        if self._keys is not None:
            interceptors.append(KeyInterceptor(self._keys))
        self._grpc = grpc.aio.server(options=options, interceptors=interceptors)
        self._grpc.add_generic_rpc_handlers(self._grpc_api.handlers())
        if settings.health_service:
            self._grpc.add_generic_rpc_handlers((HealthService(self._health).handlers(),))
        if settings.grpc_port is not None:
            self.grpc_port = self._add(target(settings.host, settings.grpc_port), "port")
        if settings.grpc_socket_path:
            self._add(f"unix:{settings.grpc_socket_path}", "grpc_socket_path")
        await self._grpc.start()

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
        return app if self._log is None else with_log(app, self._log)

    def _add(self, address: str, flag: str) -> int:
        assert self._grpc is not None
        try:
            if self._grpc_credentials is not None:
                return int(self._grpc.add_secure_port(address, self._grpc_credentials))
            return int(self._grpc.add_insecure_port(address))
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

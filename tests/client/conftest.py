"""Servers for what the shared one cannot show: official messages on the wire, and answers that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import pytest

from tfbundle_client import Client

from .faces import opened

#: Does something with one accepted connection.
Behaviour = Callable[[socket.socket], None]


@pytest.fixture(scope="session")
def official_server() -> Iterator[str]:
    """Address of a gRPC server built from the official messages and service classes; `identities` version 7 echoes."""
    from tests.client.official_servicer import add_servicers

    server = grpc.server(
        futures.ThreadPoolExecutor(2),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    add_servicers(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


@contextmanager
def _listening(behaviour: Behaviour) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=_behave, args=(behaviour, connection), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        # Closing alone does not wake a thread that waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            connection.close()
        thread.join()


def _behave(behaviour: Behaviour, connection: socket.socket) -> None:
    try:
        behaviour(connection)
    except OSError:
        connection.close()


@pytest.fixture
def listening() -> Callable[[Behaviour], AbstractContextManager[int]]:
    """Run a TCP server on a loopback port whose every connection is handled by a function."""
    return _listening


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: Any = probe.getsockname()[1]
    return int(port)


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    """Which of the two clients; see `faces.opened`."""
    return str(request.param)


@pytest.fixture
def client(face: str, url: str) -> Iterator[Client]:
    """A client of the shared server: blocking and asynchronous, over each transport."""
    with opened(face, url, timeout=30) as client:
        yield client

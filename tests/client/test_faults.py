"""Networks and servers that fail: the right answer within the deadline, or the named error within a tenth of it.

Both clients over both transports, against a real server behind a proxy that breaks connections.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Behaviour
from tests.client.faces import opened
from tests.client.fault_proxy import FaultProxy, fault_proxy
from tests.servers import RunningServer, running_server
from tfbundle_client import (
    ApiError,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    NotFound,
    ResponseEvent,
    Retry,
    Unavailable,
)

Listening = Callable[[Behaviour], AbstractContextManager[int]]

_TIMEOUT_S = 1.0
#: A tenth of the deadline, and what a busy machine of two cores may take on top.
_SLACK_S = 0.1 * _TIMEOUT_S + 0.3


@pytest.fixture(params=["grpc", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Each transport."""
    return str(request.param)


@pytest.fixture
def proxy(scheme: str, server: RunningServer) -> Iterator[FaultProxy]:
    """A proxy in front of the shared server's port of that transport."""
    with fault_proxy(server.grpc_port if scheme == "grpc" else server.rest_port) as proxy:
        yield proxy


@pytest.fixture
def client(face: str, scheme: str, proxy: FaultProxy) -> Iterator[Client]:
    """A client whose connections go through the proxy, and that has been answered once."""
    with opened(face, f"{scheme}://127.0.0.1:{proxy.port}", timeout=20, version_ttl_s=60.0) as client:
        assert _ask(client) == [2.5]
        yield client


def _ask(client: Client, **options: Any) -> list[float]:
    found: list[float] = client.predict("half_plus_two", [1.0], **options).output.tolist()
    return found


def _fails(kind: type[ApiError], client: Client, **options: Any) -> float:
    """Let a call fail with a class of error, and tell how long that took."""
    started_s = time.monotonic()
    with pytest.raises(kind) as caught:
        _ask(client, **options)
    assert caught.value.model == "half_plus_two"
    return time.monotonic() - started_s


def test_a_reset_connection_is_made_again(client: Client, proxy: FaultProxy) -> None:
    """Connections that are reset while nobody uses them, or while the next ones are made, do not show."""
    for faults in (0, 1):
        proxy.fault, proxy.faults_left = "reset", faults
        proxy.reset_all()
        assert _ask(client, timeout=10) == [2.5]
    assert proxy.connections > 2


def test_connections_that_are_always_reset(client: Client, proxy: FaultProxy) -> None:
    """The error names the address and counts the attempts, long before the deadline."""
    proxy.fault = "reset"
    proxy.reset_all()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{proxy.port}") as caught:
        _ask(client, timeout=10)
    assert caught.value.attempts == 3


def test_a_stalled_connection_ends_with_the_deadline(client: Client, proxy: FaultProxy) -> None:
    """A connection on which nothing moves any more is waited for until the deadline, and no longer."""
    proxy.fault = "stall"
    assert _TIMEOUT_S * 0.9 <= _fails(DeadlineExceeded, client, timeout=_TIMEOUT_S) < _TIMEOUT_S + _SLACK_S


def test_an_answer_after_the_deadline(client: Client) -> None:
    """A model that takes longer than the call may is not waited for, nor asked again."""
    client.metadata("slow")
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        client.predict("slow", [1.0], timeout=0.05)
    assert time.monotonic() - started_s < 0.05 + _SLACK_S
    assert caught.value.attempts == 1


def test_a_truncated_reply_is_asked_for_again(face: str, scheme: str, proxy: FaultProxy) -> None:
    """A reply of which the end is missing is never an answer: one is asked for again, all of them are an error."""
    with opened(face, f"{scheme}://127.0.0.1:{proxy.port}", timeout=10) as client:
        proxy.fault, proxy.cut_after, proxy.faults_left = "cut", 60, 1
        assert _ask(client) == [2.5]
    with opened(face, f"{scheme}://127.0.0.1:{proxy.port}", timeout=10) as client:
        proxy.fault, proxy.cut_after, proxy.faults_left = "cut", 60, None
        with pytest.raises(ConnectionFailed):
            _ask(client)


def test_one_of_three_replicas_is_dead(face: str, scheme: str, server: RunningServer, free_port: int) -> None:
    """Every call is answered while one of three servers is not there."""
    alive = server.grpc_port if scheme == "grpc" else server.rest_port
    with ExitStack() as stack:
        other = stack.enter_context(fault_proxy(alive))
        addresses = ",".join(f"127.0.0.1:{port}" for port in (free_port, alive, other.port))
        client = stack.enter_context(opened(face, f"{scheme}://{addresses}", timeout=10))
        assert [_ask(client) for _ in range(30)] == [[2.5]] * 30
        assert other.connections
        other.fault = "reset"
        other.reset_all()
        assert [_ask(client) for _ in range(10)] == [[2.5]] * 10


def test_a_server_that_restarts(tiny_models: Path) -> None:
    """While a server is away calls are Unavailable soon; when it is back they are answered by it."""
    base = f"--model_base_path={tiny_models / 'half_plus_two'}"
    with ExitStack() as stack:
        over_grpc, over_rest = (stack.enter_context(fault_proxy(1)) for _ in range(2))
        addresses = (f"grpc://127.0.0.1:{over_grpc.port}", f"http://127.0.0.1:{over_rest.port}")
        clients = [
            stack.enter_context(opened(face, url, timeout=60)) for face in ("sync", "async") for url in addresses
        ]
        for _ in range(2):
            with running_server(base, "--model_name=half_plus_two") as server:
                over_grpc.target_port, over_rest.target_port = server.grpc_port, server.rest_port
                for client in clients:
                    client.wait_until_available("half_plus_two")
                    assert _ask(client) == [2.5]
            for client in clients:
                assert _fails(Unavailable, client, timeout=10) < 5


def test_a_version_that_goes_away_between_two_calls(tiny_models: Path, tmp_path: Path) -> None:
    """Who asks for the latest version is answered by the one that is left; who asks for the lost one is told."""
    base = tmp_path / "m"
    for number in (1, 2):
        shutil.copytree(tiny_models / "half_plus_two" / "123", base / str(number))
    model = {"name": "half_plus_two", "base_path": str(base), "model_platform": "tensorflow"}

    def serve(client: Client, *versions: int) -> None:
        policy = {"specific": {"versions": versions}}
        client.reload_config({"model_config_list": {"config": [{**model, "model_version_policy": policy}]}})

    with running_server(f"--model_base_path={base}", "--model_name=half_plus_two") as server, ExitStack() as stack:
        clients = [
            stack.enter_context(opened(face, url, timeout=30, version_ttl_s=60.0))
            for face in ("sync", "async")
            for url in (server.grpc_url, server.rest_url)
        ]
        serve(clients[0], 1, 2)
        for client in clients:
            client.wait_until_available("half_plus_two", version=2)
            assert client.predict("half_plus_two", [1.0]).version == 2
        serve(clients[0], 1)
        _wait_until_gone(clients[0], 2)
        for client in clients:
            assert client.predict("half_plus_two", [1.0]).version == 1
            with pytest.raises(NotFound):
                client.predict("half_plus_two", [1.0], version=2)


def _wait_until_gone(client: Client, version: int) -> None:
    deadline_s = time.monotonic() + 30
    while any(each.is_available for each in client.status("half_plus_two") if each.version == version):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def _refusing(answered: list[int]) -> Behaviour:
    """Answer every request with 503."""

    def behave(connection: socket.socket) -> None:
        while connection.recv(65536):
            answered.append(1)
            body = b'{"error": "the queue is full"}'
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return behave


def test_a_storm_of_503_is_not_made_worse(listening: Listening, face: str) -> None:
    """A server that refuses everything gets a tenth more requests, not three times as many; each call fails soon."""
    answered: list[int] = []
    calls = 200
    policy = Retry(budget_per_s=0.0)
    with (
        listening(_refusing(answered)) as port,
        opened(face, f"http://127.0.0.1:{port}", timeout=10, retry=policy) as client,
    ):
        for _ in range(calls):
            with pytest.raises(Unavailable, match="the queue is full"):
                client.status("m")
    assert len(answered) <= calls + 10 + calls * 0.1 + 1


def test_one_503_among_many_does_not_show(listening: Listening, face: str) -> None:
    """A refusal that passes is retried, and the events tell of both attempts."""
    after: list[ResponseEvent] = []
    answered = threading.Semaphore(1)

    def behave(connection: socket.socket) -> None:
        while connection.recv(65536):
            if answered.acquire(blocking=False):
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}")
                continue
            body = b'{"model_version_status": []}'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with (
        listening(behave) as port,
        opened(face, f"http://127.0.0.1:{port}", timeout=10, on_response=after.append) as client,
    ):
        assert client.status("m") == []
    assert [(each.attempt, type(each.error)) for each in after] == [(1, Unavailable), (2, type(None))]


def test_retries_can_be_turned_off(face: str, scheme: str, free_port: int) -> None:
    """With retry=None a message is sent once."""
    with (
        opened(face, f"{scheme}://127.0.0.1:{free_port}", timeout=10, retry=None) as client,
        pytest.raises(ConnectionFailed) as caught,
    ):
        client.status("m")
    assert caught.value.attempts == 1

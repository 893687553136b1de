"""A deadline holds for the whole call, however the time is spent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tfbundle_client import Client, ConnectionFailed, DeadlineExceeded

from .conftest import Behaviour

Listening = Callable[[Behaviour], AbstractContextManager[int]]

_TIMEOUT_S = 0.5
#: The call must be over within so much more than its deadline; the machine may be busy.
_SLACK_S = 0.4

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


def _drip(connection: socket.socket, data: bytes) -> None:
    """Send a byte now and then, each well within any timeout of a single read."""
    for place in range(len(data)):
        connection.sendall(data[place : place + 1])
        time.sleep(0.05)


def _silent(connection: socket.socket) -> None:
    connection.recv(65536)
    threading.Event().wait(30)


def _slow_head(connection: socket.socket) -> None:
    connection.recv(65536)
    _drip(connection, _HEAD)


def _slow_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(_HEAD)
    _drip(connection, b" " * 100_000)


def _stalled_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(_HEAD + b"{" + b" " * 50_000)
    threading.Event().wait(30)


def _late(client: Client) -> float:
    started_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=rf"within {_TIMEOUT_S} s") as caught:
        client.status("m")
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.model == "m"
    return time.monotonic() - started_s


@pytest.mark.parametrize("behaviour", [_silent, _slow_head, _slow_body, _stalled_body])
def test_rest_gives_up_in_time(listening: Listening, behaviour: Behaviour) -> None:
    """A REST server that is silent, slow byte by byte, or stops half-way does not outlive the deadline."""
    with listening(behaviour) as port, Client(f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S) as client:
        assert _TIMEOUT_S * 0.9 <= _late(client) < _TIMEOUT_S + _SLACK_S


def test_grpc_gives_up_in_time(listening: Listening) -> None:
    """A gRPC server that accepts and says nothing does not outlive the deadline."""
    with listening(_silent) as port, Client(f"grpc://127.0.0.1:{port}", timeout=_TIMEOUT_S) as client:
        assert _late(client) < _TIMEOUT_S + _SLACK_S


def test_the_deadline_covers_look_ups_and_the_call_together(listening: Listening) -> None:
    """A predict whose look-up uses up the time is over with it."""
    with listening(_silent) as port, Client(f"http://127.0.0.1:{port}") as client:
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.predict("m", [1.0], timeout=_TIMEOUT_S)
        assert time.monotonic() - started_s < _TIMEOUT_S + _SLACK_S


def _refuse_to_speak(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.close()


def _not_http(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\0\0\6\4\0\0\0\0\0nonsense\r\n\r\n")
    connection.close()


def _cut_off(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(_HEAD + b"{")
    connection.close()


@pytest.mark.parametrize("behaviour", [_refuse_to_speak, _not_http, _cut_off])
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_broken_connection_names_the_address(listening: Listening, scheme: str, behaviour: Behaviour) -> None:
    """A server that hangs up, speaks something else or stops half-way is a ConnectionFailed that names the address."""
    with listening(behaviour) as port, Client(f"{scheme}://127.0.0.1:{port}", timeout=10) as client:
        with pytest.raises(ConnectionFailed, match=f"{scheme}://127.0.0.1:{port}") as caught:
            client.status("m")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nothing_listens(scheme: str, free_port: int) -> None:
    """An unreachable server is a ConnectionFailed that names the address and the reason."""
    with (
        Client(f"{scheme}://127.0.0.1:{free_port}", timeout=10) as client,
        pytest.raises(
            ConnectionFailed, match=rf"no connection to {scheme}://127.0.0.1:{free_port}: .*refused"
        ) as caught,
    ):
        client.predict("m", [1.0])
    assert (caught.value.model, caught.value.code) == ("m", 14)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_waiting_for_a_server_that_never_comes(scheme: str, free_port: int) -> None:
    """wait_until_available ends with its time and says what was seen last."""
    with (
        Client(f"{scheme}://127.0.0.1:{free_port}") as client,
        pytest.raises(DeadlineExceeded, match=r"m was not available within 0\.5 s \(no connection to .*refused"),
    ):
        client.wait_until_available("m", timeout=_TIMEOUT_S)

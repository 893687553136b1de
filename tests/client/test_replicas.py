"""Several servers with the same models: a dead one costs no call, and each has its turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.calling import KINDS, call
from tests.servers import RunningServer
from tfbundle_client import Client, ConnectionFailed
from tfbundle_client.transports.replicas import Replicas


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_dead_replica_is_survived(server: RunningServer, kind: Any, scheme: str, free_port: int) -> None:
    """Of several servers the dead one costs no call, without any retry."""
    port = server.grpc_port if scheme == "grpc" else server.rest_port
    url = f"{scheme}://127.0.0.1:{free_port},127.0.0.1:{port},localhost:{port}"
    assert call(kind, url, times=6, retry=None) == [3.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_all_replicas_dead(kind: Any, scheme: str, free_port: int) -> None:
    """With nobody there the error names one of the addresses."""
    url = f"{scheme}://127.0.0.1:{free_port},localhost:{free_port}"
    with pytest.raises(ConnectionFailed, match=rf"no connection to {scheme}://(127\.0\.0\.1|localhost):{free_port}: "):
        call(kind, url, retry=None, timeout=10)


def test_a_name_is_balanced(server: RunningServer) -> None:
    """dns:/// reaches a server by its name."""
    assert call(Client, f"dns:///localhost:{server.grpc_port}") == [3.0]


def test_replicas_take_turns_and_rest() -> None:
    """Each server has its turn; one that failed comes last until it has rested, longer after each failure."""
    now_s = [0.0]
    replicas = Replicas("abc", clock=lambda: now_s[0])

    def firsts(count: int) -> str:
        return "".join(replicas.order()[0][1] for _ in range(count))

    assert firsts(6) == "abcabc"
    replicas.failed(1)
    assert "b" not in firsts(6)
    assert all(order[-1][1] == "b" for order in (replicas.order() for _ in range(3)))
    now_s[0] = 1.1
    assert "b" in firsts(3)
    replicas.failed(1)
    now_s[0] = 2.2
    assert "b" not in firsts(3), "the second rest is longer"
    replicas.worked(1)
    assert "b" in firsts(3)
    for number in range(3):
        replicas.failed(number)
    assert sorted(member for _, member in replicas.order()) == ["a", "b", "c"], "with nobody well, all are tried"

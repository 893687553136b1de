"""Peers that do not shake hands, or do not read: the deadline holds."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.client.calling import KINDS, Listening
from tfbundle_client import Client, DeadlineExceeded
from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection
from tfbundle_client.transports.opening import open_async_transport, open_transport
from tfbundle_client.transports.timed_connections import timed_pools
from tfbundle_client.transports.transport import PredictCall
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature, TensorSpec


def _never_read(_connection: socket.socket) -> None:
    threading.Event().wait(10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https", "grpcs"])
def test_handshakes_and_large_requests_end_in_time(listening: Listening, kind: Any, scheme: str) -> None:
    """A server that never shakes hands, or never reads the request, does not outlive the deadline."""
    # aiohttp goes on trying to send what a request left in its buffer, and asyncio then complains of the open socket.
    rows = 3000 if kind is Client else 1
    array = np.zeros((rows, 1000), np.float32)

    with listening(_never_read) as port:
        assert 0.45 <= _time_to_give_up(kind, f"{scheme}://127.0.0.1:{port}", array) < 0.9


def _time_to_give_up(kind: Any, url: str, array: Any) -> float:
    """Send a large predict with half a second to go, and give the seconds that it took to fail."""
    call = PredictCall(
        spec=ModelSpec("m"),
        deadline=Deadline.after(20.0),
        inputs={"x": array},
        signature=Signature({"x": TensorSpec(dtypes.FLOAT, (None, None))}, {"y": TensorSpec(dtypes.FLOAT, (None,))}),
    )

    if kind is Client:
        transport = open_transport(parse_address(url), Connection())
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            transport.send(replace(call, deadline=Deadline.after(0.5)))
        took_s = time.monotonic() - started_s
        transport.close()
        return took_s

    async def send() -> float:
        transport = open_async_transport(parse_address(url), Connection())
        started_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
            await transport.send(replace(call, deadline=Deadline.after(0.5)))
        took_s = time.monotonic() - started_s
        await transport.close()
        return took_s

    return asyncio.run(send())


def test_a_used_connection_has_the_new_calls_time(listening: Listening) -> None:
    """A connection that just served a call with little time left gives a large request all of its own time."""
    body = b'{"outputs": [1.0]}'

    def behave(connection: socket.socket) -> None:
        for _ in range(2):
            data = connection.recv(65536)
            length = int(data.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            missing = length - len(data.partition(b"\r\n\r\n")[2])
            time.sleep(0.35)  # not read yet: longer than the first call's time, within the second's
            while missing > 0:
                missing -= len(connection.recv(1 << 20))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with listening(behave) as port:
        import urllib3

        manager = urllib3.PoolManager()
        manager.pool_classes_by_scheme = timed_pools()
        with manager:
            url = f"http://127.0.0.1:{port}/"
            for size, timeout_s in ((10, 0.4), (30_000_000, 20.0)):
                reply = manager.request(
                    "POST", url, body=b" " * size, timeout=urllib3.Timeout(total=timeout_s), retries=False
                )
                assert reply.data == body

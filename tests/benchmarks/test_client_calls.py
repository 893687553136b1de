"""What a call of the client costs beside the bare library below it: pytest tests/benchmarks -m benchmark.

The server is real and runs beside; each pair takes turns, so that what the machine does else falls on both.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.conftest import Report
from tests.servers import RunningServer
from tfbundle_client import AsyncClient, Client
from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection
from tfbundle_client.transports.grpc_messages import METHODS
from tfbundle_client.transports.opening import open_async_transport, open_transport
from tfbundle_client.transports.rest_messages import write_request
from tfbundle_client.transports.transport import PredictCall
from tfbundle_serving.apis.model_spec import ModelSpec

pytestmark = pytest.mark.benchmark

MODEL = "half_plus_two"
#: 1 KB.
INPUT = np.linspace(0, 1, 256, dtype=np.float32)
IN_FLIGHT = 64


def wall_medians(runs: Mapping[str, Callable[[], Any]], *, rounds: int = 25, calls: int = 40) -> dict[str, float]:
    """Measure several functions in turn by the clock, since a call waits as well.

    Returns:
        Name to seconds of one call: the median over the rounds of each round's median.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for _ in range(rounds + 1):
        for name, function in runs.items():
            taken = []
            for _ in range(calls):
                start = time.perf_counter()
                function()
                taken.append(time.perf_counter() - start)
            times[name].append(statistics.median(taken))
    return {name: statistics.median(each[1:]) for name, each in times.items()}


async def rates(
    runs: Mapping[str, Callable[[], Awaitable[Any]]], *, rounds: int = 9, calls: int = 2000
) -> dict[str, float]:
    """Measure several coroutine functions in turn, each with 64 in flight.

    Returns:
        Name to calls in a second, the median over the rounds.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, function in runs.items():
            left = iter(range(calls))

            async def work(function: Callable[[], Awaitable[Any]] = function, left: Iterator[int] = left) -> None:
                for _ in left:
                    await function()

            start = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
            found[name].append(calls / (time.perf_counter() - start))
    return {name: statistics.median(each[1:]) for name, each in found.items()}


@contextmanager
def prepared(url: str) -> Iterator[tuple[PredictCall, Client]]:
    """Give a client, and the very message that its predict sends."""
    with Client(url) as client:
        signature = client.metadata(MODEL).callable_signatures["serving_default"]
        client.predict(MODEL, INPUT)
        yield (
            PredictCall(
                spec=ModelSpec(MODEL, client.predict(MODEL, INPUT).version if url.startswith("http") else None),
                deadline=Deadline.after(600.0),
                inputs={"x": INPUT},
                signature=signature,
            ),
            client,
        )


def test_grpc_call(report: Report, server: RunningServer) -> None:
    """A predict over gRPC costs little more than a bare stub's call with bytes that are ready."""
    import grpc

    with prepared(server.grpc_url) as (call, client), grpc.insecure_channel(server.grpc_target) as channel:
        method = METHODS[PredictCall]
        body, stub = method.build(call), channel.unary_unary(method.path)
        transport = open_transport(parse_address(server.grpc_url), Connection())
        took = wall_medians(
            {
                "bare": lambda: stub(body, timeout=60.0),
                "transport": lambda: transport.send(call),
                "client": lambda: client.predict(MODEL, INPUT),
            }
        )
        transport.close()
    report.time("bare gRPC call 1 KB, wall", took["bare"])
    report.ratio("gRPC transport 1 KB, of a bare call", took["transport"] / took["bare"], 1.15, at_most=True)
    report.ratio("Client.predict over gRPC 1 KB, of a bare call", took["client"] / took["bare"], 1.15, at_most=True)


def test_rest_call(report: Report, server: RunningServer) -> None:
    """A predict over REST costs no more than a bare post of requests with bytes that are ready."""
    import requests

    with prepared(server.rest_url) as (call, client), requests.Session() as session:
        _, request = write_request(call, compress=False)
        url, headers = server.rest_url + request.path, dict(request.headers)
        transport = open_transport(parse_address(server.rest_url), Connection())
        took = wall_medians(
            {
                "bare": lambda: session.post(url, data=request.body, headers=headers, timeout=60.0).content,
                "transport": lambda: transport.send(call),
                "client": lambda: client.predict(MODEL, INPUT),
            }
        )
        transport.close()
    report.time("bare requests.Session.post 1 KB, wall", took["bare"])
    report.ratio("REST transport 1 KB, of a bare post", took["transport"] / took["bare"], 1.1, at_most=True)
    report.ratio("Client.predict over REST 1 KB, of a bare post", took["client"] / took["bare"], 1.1, at_most=True)


def test_many_grpc_calls(report: Report, server: RunningServer) -> None:
    """An AsyncClient with 64 calls in flight reaches nearly the rate of bare grpc.aio."""
    import grpc.aio

    async def measure(call: PredictCall) -> dict[str, float]:
        method = METHODS[PredictCall]
        body = method.build(call)
        async with (
            grpc.aio.insecure_channel(server.grpc_target) as channel,
            AsyncClient(server.grpc_url) as client,
        ):
            stub = channel.unary_unary(method.path)
            transport = open_async_transport(parse_address(server.grpc_url), Connection())

            async def bare() -> bytes:
                reply: bytes = await stub(body, timeout=60.0)
                return reply

            found = await rates(
                {
                    "bare": bare,
                    "transport": lambda: transport.send(call),
                    "client": lambda: client.predict(MODEL, INPUT),
                }
            )
            await transport.close()
            return found

    with prepared(server.grpc_url) as (call, _):
        rate = asyncio.run(measure(call))
    report.ratio("gRPC transport 64 in flight, of bare grpc.aio", rate["transport"] / rate["bare"], 0.85, at_most=False)
    report.ratio("AsyncClient gRPC 64 in flight, of bare grpc.aio", rate["client"] / rate["bare"], 0.85, at_most=False)


def test_many_rest_calls(report: Report, server: RunningServer) -> None:
    """An AsyncClient with 64 calls in flight over REST reaches most of the rate of bare aiohttp."""
    import aiohttp

    async def measure(call: PredictCall) -> dict[str, float]:
        _, request = write_request(call, compress=False)
        url = server.rest_url + request.path
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            AsyncClient(server.rest_url) as client,
        ):
            transport = open_async_transport(parse_address(server.rest_url), Connection())

            async def bare() -> bytes:
                async with session.post(url, data=request.body, headers=request.headers) as response:
                    return await response.read()

            found = await rates(
                {
                    "bare": bare,
                    "transport": lambda: transport.send(call),
                    "client": lambda: client.predict(MODEL, INPUT),
                }
            )
            await transport.close()
            return found

    with prepared(server.rest_url) as (call, _):
        rate = asyncio.run(measure(call))
    report.ratio("REST transport 64 in flight, of bare aiohttp", rate["transport"] / rate["bare"], 0.8, at_most=False)
    report.ratio("AsyncClient REST 64 in flight, of bare aiohttp", rate["client"] / rate["bare"], 0.8, at_most=False)

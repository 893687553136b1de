"""A load generator that costs little: prepared bytes, so many requests in flight, raw HTTP/1.1 or gRPC."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio

PREDICT = "/tensorflow.serving.PredictionService/Predict"

#: Sends one request on one of the connections and waits for its reply.
Ask = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Measured:
    """What a run of the load generator gave.

    Attributes:
        per_second: Requests answered in a second.
        p50_s: Median latency.
    """

    per_second: float
    p50_s: float


async def _drive(asks: list[Ask], seconds: float) -> Measured:
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def one(ask: Ask) -> None:
        while (begun := time.perf_counter()) < end:
            await ask()
            latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(one(ask) for ask in asks))
    return Measured(len(latencies) / (time.perf_counter() - begun), statistics.median(latencies or [0.0]))


def over_grpc(target: str, request: bytes, *, in_flight: int, seconds: float, method: str = PREDICT) -> Measured:
    """Send a request again and again over one channel."""

    async def run() -> Measured:
        async with grpc.aio.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)]) as channel:
            call = channel.unary_unary(method)

            async def ask() -> bytes:
                reply: bytes = await call(request)
                return reply

            await ask()
            return await _drive([ask] * in_flight, seconds)

    return asyncio.run(run())


def over_rest(port: int, path: str, body: bytes, *, in_flight: int, seconds: float) -> Measured:
    """Send a request again and again, each over a connection of its own that stays open."""

    async def run() -> Measured:
        async with AsyncExitStack() as stack:
            asks = [await connect(stack, port, path, body) for _ in range(in_flight)]
            await asks[0]()
            return await _drive(asks, seconds)

    return asyncio.run(run())


async def connect(stack: AsyncExitStack, port: int, path: str, body: bytes) -> Ask:
    """Open a connection that sends one request each time it is asked to, and stays open until the stack is closed."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
    stack.callback(writer.close)

    async def ask() -> bytes:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return await reader.readexactly(length)

    return ask

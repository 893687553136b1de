"""Requests at a constant rate, whatever the answers do, while something else happens to the server."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import grpc.aio

from tests.benchmarks.load import PREDICT, Ask

#: Opens connections that stay open until the stack is closed, and gives the ways to ask over them.
Open = Callable[[AsyncExitStack], Awaitable[Sequence[Ask]]]


@dataclass
class ConstantRate:
    """Asks from a thread of its own, in turn in each of the ways.

    Attributes:
        rate: Requests a second, of all ways together.
        open: Gives the ways.
        latencies: When each answered request was due, and the seconds from then until its answer.
        failed: What went wrong.
    """

    rate: float
    open: Open
    latencies: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> ConstantRate:
        """Begin to ask."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()

    def p99_s(self, spans: Iterable[tuple[float, float]]) -> float:
        """Give the 99th percentile of the requests that were due in spans of time.perf_counter()."""
        took = [took for begin, end in spans for due, took in self.latencies if begin <= due < end]
        return statistics.quantiles(took, n=100)[98]

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            ways = itertools.cycle(await self.open(stack))
            tasks: set[asyncio.Task[None]] = set()
            begun = time.perf_counter()
            for number in itertools.count():
                due = begun + number / self.rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if self._stop.is_set():
                    break
                task = asyncio.create_task(self._ask(next(ways), due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _ask(self, ask: Ask, due: float) -> None:
        try:
            await ask()
            self.latencies.append((due, time.perf_counter() - due))
        except (grpc.aio.AioRpcError, AssertionError, OSError, EOFError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")


async def grpc_ways(stack: AsyncExitStack, target: str, requests: Iterable[bytes]) -> list[Ask]:
    """Open one channel; each way sends one of the requests."""
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
    call = channel.unary_unary(PREDICT)

    def way(request: bytes) -> Ask:
        async def ask() -> bytes:
            reply: bytes = await call(request)
            return reply

        return ask

    return [way(request) for request in requests]

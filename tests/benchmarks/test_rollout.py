"""Promote and rollback under load: over gRPC and REST, through the label and without, nothing fails and few wait."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from tests.benchmarks.conftest import Report
from tests.benchmarks.load import PREDICT, Ask, connect
from tests.client.rollout_site import Site
from tests.nursery import run
from tests.servers import RunningServer, running_server
from tests.serving.server.conftest import wait_for
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request

pytestmark = pytest.mark.benchmark

#: Requests a second, of all ways to ask together.
RATE = 200.0
ROUNDS = 6
#: Seconds of quiet before each command, which the command is held against.
STEADY_S = 2.0
_REST_CONNECTIONS = 8


@dataclass
class MixedLoad:
    """Asks at a constant rate, in turn over gRPC and REST, through the label and without.

    Attributes:
        server: Is asked.
        latencies: When each answered request was due, and the seconds until its answer.
        failed: What went wrong.
    """

    server: RunningServer
    latencies: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MixedLoad:
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
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(self.server.grpc_target))
            ways = itertools.cycle(
                [
                    _grpc_way(channel, "stable"),
                    await self._rest_way(stack, "/labels/stable"),
                    _grpc_way(channel, None),
                    await self._rest_way(stack, ""),
                ]
            )
            tasks: set[asyncio.Task[None]] = set()
            begun = time.perf_counter()
            for number in itertools.count():
                due = begun + number / RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if self._stop.is_set():
                    break
                task = asyncio.create_task(self._ask(next(ways), due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _rest_way(self, stack: AsyncExitStack, place: str) -> Ask:
        """Ask over one of several connections that stay open; each carries one request at a time."""
        body = json.dumps({"instances": [1.0, 2.0]}).encode()
        path = f"/v1/models/m{place}:predict"
        free: asyncio.Queue[Ask] = asyncio.Queue()
        for _ in range(_REST_CONNECTIONS):
            free.put_nowait(await connect(stack, self.server.rest_port, path, body))

        async def ask() -> bytes:
            connection = await free.get()
            try:
                return await connection()
            finally:
                free.put_nowait(connection)

        return ask

    async def _ask(self, ask: Ask, due: float) -> None:
        try:
            await ask()
            self.latencies.append((due, time.perf_counter() - due))
        except (grpc.aio.AioRpcError, AssertionError, OSError, EOFError) as error:
            self.failed.append(f"{type(error).__name__}: {error}")


def _grpc_way(channel: grpc.aio.Channel, label: str | None) -> Ask:
    call = channel.unary_unary(PREDICT)
    spec = ModelSpec("m", None, label, "")
    request = encode_predict_request(PredictRequest(spec, {"x": np.array([1.0, 2.0], np.float32)}))

    async def ask() -> bytes:
        reply: bytes = await call(request)
        return reply

    return ask


@dataclass
class RolledOut:
    """What promotions and rollbacks under load did.

    Attributes:
        load: What was asked meanwhile.
        quiet: When the spans before the commands were.
        during: When the commands ran.
        seconds: Command to what each run of it took, from start to exit.
    """

    load: MixedLoad
    quiet: list[tuple[float, float]] = field(default_factory=list)
    during: list[tuple[float, float]] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def rolled_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RolledOut]:
    """A label that goes to version 2 and back, some times, under load."""
    site = Site(tmp_path_factory.mktemp("rollout"))
    site.publish(1)
    site.publish(2)
    site.write()
    with running_server(f"--model_config_file={site.config}", fresh=True) as server, MixedLoad(server) as load:
        wait_for(lambda: len(load.latencies) > 2 * RATE, "the first answers")
        done = RolledOut(load)
        for words in [("promote", "m", "2"), ("rollback", "m")] * ROUNDS:
            _run(done, site, server, words)
        yield done


def _run(done: RolledOut, site: Site, server: RunningServer, words: tuple[str, ...]) -> None:
    quiet = time.perf_counter()
    time.sleep(STEADY_S)
    begun = time.perf_counter()
    ended = run(site.words(*words, servers=(server,)), {}, folder=Path(site.root))
    took = time.perf_counter()
    assert ended.returncode == 0, ended.stderr
    # What the command set off at the server goes on a little longer than it.
    time.sleep(0.5)
    done.quiet.append((quiet, begun))
    done.during.append((begun, time.perf_counter()))
    done.seconds.setdefault(words[0], []).append(took - begun)


def test_no_request_fails(rolled_out: RolledOut) -> None:
    """Every request is answered."""
    assert not rolled_out.load.failed, rolled_out.load.failed[:3]


def test_requests_do_not_wait(rolled_out: RolledOut, report: Report) -> None:
    """The 99th percentile during the commands, against that of the seconds before them."""
    steady_s, during_s = rolled_out.load.p99_s(rolled_out.quiet), rolled_out.load.p99_s(rolled_out.during)
    print(f"\np99 before and during a promote or rollback: {steady_s * 1e3:.1f} and {during_s * 1e3:.1f} ms")
    report.ratio("p99 during a promote or rollback / before", during_s / steady_s, 3, at_most=True)


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_it_takes_little_time(rolled_out: RolledOut, report: Report, command: str) -> None:
    """From the start of the command to its end, under load."""
    report.time(f"{command} under load", statistics.median(rolled_out.seconds[command]), at_most=10.0)

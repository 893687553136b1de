"""Promote and rollback under load: over gRPC and REST, through the label and without, nothing fails and few wait."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.conftest import Report
from tests.benchmarks.constant_rate import ConstantRate, grpc_ways
from tests.benchmarks.load import Ask, connect
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


async def open_ways(stack: AsyncExitStack, server: RunningServer) -> list[Ask]:
    """Ask over gRPC and over REST, through the label and without."""
    specs = [ModelSpec("m", None, label, "") for label in ("stable", None)]
    requests = [encode_predict_request(PredictRequest(spec, {"x": np.array([1.0, 2.0], np.float32)})) for spec in specs]
    over_rest = [await _rest_way(stack, server.rest_port, place) for place in ("/labels/stable", "")]
    return [*await grpc_ways(stack, server.grpc_target, requests), *over_rest]


async def _rest_way(stack: AsyncExitStack, port: int, place: str) -> Ask:
    """Ask over one of several connections that stay open; each carries one request at a time."""
    body = json.dumps({"instances": [1.0, 2.0]}).encode()
    free: asyncio.Queue[Ask] = asyncio.Queue()
    for _ in range(_REST_CONNECTIONS):
        free.put_nowait(await connect(stack, port, f"/v1/models/m{place}:predict", body))

    async def ask() -> bytes:
        connection = await free.get()
        try:
            return await connection()
        finally:
            free.put_nowait(connection)

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

    load: ConstantRate
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
    with (
        running_server(f"--model_config_file={site.config}", fresh=True) as server,
        ConstantRate(RATE, lambda stack: open_ways(stack, server)) as load,
    ):
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

"""How well the load generator itself keeps time: at 500 requests a second it must not be what is measured."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers import RunningServer
from tfbundle_client.bench.inputs import draw_inputs
from tfbundle_client.bench.load import Load
from tfbundle_client.bench.measurement import LATE_SHARE, Measurement
from tfbundle_client.bench.run import run_bench
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection
from tfbundle_serving.apis.model_spec import ModelSpec

pytestmark = pytest.mark.benchmark

RATE = 500.0


def _measure(url: str, load: Load) -> Measurement:
    result = run_bench(
        parse_address(url),
        Connection(),
        ModelSpec("half_plus_two"),
        load,
        lambda signature, _: draw_inputs(signature, 1, 0),
    )
    assert result.measurement is not None
    return result.measurement


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_the_generator_keeps_its_time(url: str, arrivals: Any, report: Any) -> None:
    """Less than one send in a hundred is late; of three runs the best counts, the others are the machine's."""
    load = Load(rate=RATE, arrivals=arrivals, duration_s=4.0, warm_up_s=1.0)
    best = min((_measure(url, load) for _ in range(3)), key=lambda each: each.late_share)
    where = f"bench, {RATE:g}/s {arrivals}, {url.partition(':')[0]}"
    assert best.failed == 0
    report.ratio(f"{where}: late sends, in a hundred", best.late_share * 100, LATE_SHARE * 100, at_most=True)
    report.time(f"{where}: mean lag of a send", best.lag.mean_s)


def test_the_closed_loop_reports_its_ceiling(server: RunningServer, report: Any) -> None:
    """How many requests a second the generator and the embedded server reach together, 32 in flight."""
    for url in (server.grpc_url, server.rest_url):
        measurement = _measure(url, Load(concurrency=32, duration_s=2.0, warm_up_s=0.5))
        assert measurement.failed == 0
        report.time(f"bench, 32 in flight, {url.partition(':')[0]}: a request", 1 / measurement.achieved_rate)

"""A new version of a 100 MB model under load: nothing fails, few wait, and memory does not grow.

Requests come at a constant rate, whatever the answers do, so that a pause shows in the latency of all that fall into
it; a closed loop would only ask less.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow as tf

from tests.benchmarks.conftest import Report
from tests.benchmarks.constant_rate import ConstantRate, grpc_ways
from tests.servers import RunningServer, running_server
from tests.serving.server.conftest import wait_for
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request

pytestmark = pytest.mark.benchmark

RATE = 200.0
SWAPS = 20
#: Seconds of quiet before each swap, which the swap is held against.
STEADY_S = 2.0


def save_large(folder: Path) -> None:
    """Save a model with a table of 100 MB, of which a request reads a few rows."""
    table = tf.Variable(tf.random.normal((51_200, 512)))
    weights = tf.Variable(tf.random.normal((512, 10)))

    def predict(x: Any) -> Any:
        return {"y": tf.nn.softmax(tf.reduce_mean(tf.gather(table, x), axis=1) @ weights)}

    module = tf.Module()
    module.kept = [table, weights]
    spec = tf.TensorSpec([None, 16], tf.int32, name="x")
    module.predict = tf.function(predict, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})


@dataclass
class Swapping:
    """A server whose model gets new versions under load, and what that did.

    Attributes:
        spans: Of each swap, when the quiet before it, the swap itself and its end were.
        resident_mb: Memory that the server held after each swap.
    """

    server: RunningServer
    base: Path
    load: ConstantRate
    spans: list[tuple[float, float, float]] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)

    def swap(self, source: Path, version: int) -> None:
        """Publish a version, wait until it alone is served, and note what requests and memory did."""
        staging = self.base / f".staging-{version}"
        shutil.copytree(source, staging, copy_function=os.link)
        quiet = time.perf_counter()
        # The question asked below costs both processes something, so it is asked in the quiet as well.
        while time.perf_counter() < quiet + STEADY_S:
            self._states()
            time.sleep(0.02)
        begun = time.perf_counter()
        staging.rename(self.base / str(version))
        wait_for(lambda: self._states() == {version: "AVAILABLE"}, f"version {version} alone")
        ended = time.perf_counter()
        time.sleep(0.5)
        self.spans.append((quiet, begun, ended))
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        self.resident_mb.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)
        shutil.rmtree(self.base / str(version - 1))

    def _states(self) -> dict[int, str]:
        reply = requests.get(f"{self.server.rest_url}/v1/models/m", timeout=30).json()
        states = {int(each["version"]): each["state"] for each in reply["model_version_status"]}
        return {version: state for version, state in states.items() if state != "END"}


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swapping]:
    """Twenty swaps of one server under load."""
    root = tmp_path_factory.mktemp("swap")
    source, base = root / "source", root / "models" / "m"
    save_large(source)
    base.mkdir(parents=True)
    shutil.copytree(source, base / "1", copy_function=os.link)
    x = np.arange(16, dtype=np.int32)[None]
    request = encode_predict_request(PredictRequest(ModelSpec("m"), {"x": x}))
    with (
        running_server(str(root / "models"), fresh=True) as server,
        ConstantRate(RATE, lambda stack: grpc_ways(stack, server.grpc_target, [request])) as load,
    ):
        swapping = Swapping(server, base, load)
        wait_for(lambda: len(load.latencies) > 2 * RATE, "the first answers")
        for version in range(2, SWAPS + 2):
            swapping.swap(source, version)
        yield swapping


def test_no_request_fails(swapped: Swapping) -> None:
    """Every request is answered."""
    assert not swapped.load.failed, swapped.load.failed[:3]


def test_requests_do_not_wait(swapped: Swapping, report: Report) -> None:
    """The 99th percentile while a version is swapped, against that of the seconds before."""
    # Of all swaps together: a single one has a hundred requests, and their 99th percentile is the slowest.
    steady_s = swapped.load.p99_s((quiet, begun) for quiet, begun, _ in swapped.spans)
    during_s = swapped.load.p99_s((begun, ended) for _, begun, ended in swapped.spans)
    print(f"\n100 MB model, p99 before and during a swap: {steady_s * 1e3:.1f} and {during_s * 1e3:.1f} ms")
    report.ratio("100 MB model, p99 during a swap / before", during_s / steady_s, 3, at_most=True)


def test_memory_does_not_grow(swapped: Swapping, report: Report) -> None:
    """The memory that the server holds after the last swap, against that after the second."""
    second, last = swapped.resident_mb[1], swapped.resident_mb[-1]
    print(f"\n100 MB model, memory after 2 and {SWAPS} swaps: {second:.0f} and {last:.0f} MB")
    report.ratio(f"100 MB model, memory after {SWAPS} swaps / after 2", last / second, 1.1, at_most=True)

"""What recording costs: a server that records next to one that does not, and the reading of what was recorded.

Every number is a ratio within one run: the servers are measured in turn, and the median of the rounds' ratios counts.
The load generator runs on the same cores.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.conftest import Report
from tests.benchmarks.load import Measured, over_grpc
from tests.benchmarks.test_server import save_mlp
from tests.servers import running_server
from tfbundle_serving.apis.crc32c import crc32c
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request
from tfbundle_serving.apis.prediction_log import prediction_log_chunks, read_prediction_logs
from tfbundle_serving.apis.signatures import PREDICT_METHOD
from tfbundle_serving.apis.tfrecord import frame

pytestmark = pytest.mark.benchmark

ROUNDS = 7
SECONDS = 2.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense model."""
    folder = tmp_path_factory.mktemp("models")
    save_mlp(folder / "m" / "1")
    return folder


def _ratios(
    models: Path, tmp_path: Path, rates: tuple[float, ...], load: Callable[[str], Measured], rounds: int
) -> dict[float, tuple[float, float]]:
    """Give for each rate requests a second and median latency, as shares of those of a server that does not record."""
    flags = {
        rate: [f"--record={tmp_path / f'{rate}'}", f"--record_rate={rate}"] if rate else [] for rate in (0.0, *rates)
    }
    with ExitStack() as stack:
        servers = {
            rate: stack.enter_context(running_server(str(models), *more, fresh=True)) for rate, more in flags.items()
        }
        found: dict[float, list[Measured]] = {rate: [] for rate in servers}
        for round_number in range(rounds + 1):
            for rate, server in servers.items():
                measured = load(server.grpc_target)
                if round_number:
                    found[rate].append(measured)
                # It is begun anew, and never full.
                (tmp_path / f"{rate}").unlink(missing_ok=True)
    return {
        rate: (
            statistics.median(a.per_second / b.per_second for a, b in zip(found[rate], found[0.0], strict=True)),
            statistics.median(a.p50_s / b.p50_s for a, b in zip(found[rate], found[0.0], strict=True)),
        )
        for rate in rates
    }


def test_small_requests(models: Path, tmp_path: Path, report: Report) -> None:
    """Requests a second, 64 in flight, a row of 784 float32 each."""
    request = encode_predict_request(PredictRequest(ModelSpec("m"), {"x": np.random.rand(1, 784).astype(np.float32)}))
    ratios = _ratios(
        models,
        tmp_path,
        (0.01, 1.0),
        lambda target: over_grpc(target, request, in_flight=64, seconds=SECONDS),
        ROUNDS,
    )
    report.ratio("recorder, requests/s at rate 0.01", ratios[0.01][0], 0.95, at_most=False)
    report.ratio("recorder, requests/s at rate 1", ratios[1.0][0], 0.7, at_most=False)


def test_large_requests(models: Path, tmp_path: Path, report: Report) -> None:
    """Requests of 10 MB, all of them recorded, do not stall the server.

    That is up to 1 GB a second for the disk. The checksum takes 2 ms of a processor and the system's write 4 to 6 ms;
    a request without them takes 8 ms, and the load generator as much again, on the same two cores.
    """
    x = np.random.rand(3189, 784).astype(np.float32)
    request = encode_predict_request(PredictRequest(ModelSpec("m"), {"x": x}))
    ratios = _ratios(
        models, tmp_path, (1.0,), lambda target: over_grpc(target, request, in_flight=2, seconds=SECONDS), 3
    )
    report.ratio("recorder, 10 MB requests/s at rate 1", ratios[1.0][0], 0.5, at_most=False)


def test_checksum(report: Report) -> None:
    """CRC-32C of 10 MB in one piece."""
    data = np.random.default_rng(0).bytes(10_000_000)
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        crc32c(data)
        times.append(time.perf_counter() - begun)
    report.time("CRC-32C of 10 MB", statistics.median(times), at_most=0.05)


def test_reading(tmp_path: Path, report: Report) -> None:
    """10,000 requests of the digits model are read in less than a second."""
    x = np.random.rand(1, 8, 8, 1).astype(np.float32)
    record = prediction_log_chunks(PredictRequest(ModelSpec("digits"), {"image": x}), PREDICT_METHOD)
    path = tmp_path / "recorded"
    path.write_bytes(b"".join(frame([record] * 10_000)))
    begun = time.perf_counter()
    assert sum(1 for _ in read_prediction_logs(path)) == 10_000
    report.time("reading of 10,000 recorded digits requests", time.perf_counter() - begun, at_most=1.0)

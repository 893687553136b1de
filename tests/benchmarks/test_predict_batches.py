"""A million rows through predict_batches, beside batches made by hand: pytest tests/benchmarks -m benchmark."""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.benchmarks.conftest import Report
from tests.servers import RunningServer, running_server
from tfbundle_client import Client
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_response, encode_predict_request

pytestmark = pytest.mark.benchmark

ROWS, COLUMNS = 1_000_000, 100
BATCH_SIZE, IN_FLIGHT = 512, 4
ROUNDS = 5
#: Reads the file through a memory map, scores it, and prints how much the process has grown at most, in bytes.
_CHILD = """
import re, sys
import numpy as np
from tfbundle_client import Client
def peak():
    # ru_maxrss would be that of the process that started this one, where that was larger.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
url, path, batch_size, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Client(url) as client:
    client.predict("linear", np.zeros((batch_size, 100), np.float32))
    start = peak()
    data, rows = np.load(path, mmap_mode="r"), 0
    for answer in client.predict_batches("linear", data, batch_size=batch_size, in_flight=in_flight):
        assert answer.first_row == rows
        rows += answer.rows
    assert rows == len(data)
print(peak() - start)
"""


def _save_linear(folder: Path) -> None:
    """Save y = x @ w for float32 x of shape (?, 100)."""
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(tf.fill([COLUMNS, 1], 0.01))
    spec = tf.TensorSpec([None, COLUMNS], tf.float32, name="x")
    module.predict = tf.function(lambda x: {"y": x @ module.w}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    (folder / "metadata.json").write_text(json.dumps({"batchable": True}))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of the linear model."""
    folder = tmp_path_factory.mktemp("linear")
    _save_linear(folder / "models/linear/1")
    with running_server(str(folder / "models"), folder=folder, fresh=True) as running:
        yield running


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million rows in a .npy."""
    path = tmp_path_factory.mktemp("table") / "x.npy"
    array = np.lib.format.open_memmap(path, "w+", np.float32, (ROWS, COLUMNS))
    for start in range(0, ROWS, 10_000):
        array[start : start + 10_000] = np.float32(start / ROWS)
    array.flush()
    return path


def _by_hand(target: str, data: NDArray[Any]) -> float:
    """Send the batches with threads, a bare stub and the codec alone, and return the seconds."""
    import grpc

    starts = itertools.count(0, BATCH_SIZE)
    answers: dict[int, Any] = {}
    spec = ModelSpec("linear", 1)
    with grpc.insecure_channel(target) as channel:
        stub = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        def work() -> None:
            while (start := next(starts)) < len(data):
                request = PredictRequest(spec, {"x": np.asarray(data[start : start + BATCH_SIZE])}, ())
                reply = decode_predict_response(stub(encode_predict_request(request), timeout=60.0))
                answers[start] = reply.outputs["y"]

        started = time.perf_counter()
        threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
    assert sum(map(len, answers.values())) == len(data)
    return took


def _by_client(url: str, data: NDArray[Any]) -> float:
    with Client(url) as client:
        started = time.perf_counter()
        answers = client.predict_batches("linear", data, batch_size=BATCH_SIZE, in_flight=IN_FLIGHT)
        rows = sum(len(each["y"]) for each in answers)
        took = time.perf_counter() - started
    assert rows == len(data)
    return took


def test_throughput(report: Report, linear: RunningServer, table: Path) -> None:
    """predict_batches reaches nearly the rows a second of batches that are sent by hand."""
    data = np.load(table, mmap_mode="r")
    _by_hand(linear.grpc_target, data[:50_000])
    hand, client, ratios = [], [], []
    for _ in range(ROUNDS):
        hand.append(_by_hand(linear.grpc_target, data))
        client.append(_by_client(linear.grpc_url, data))
        ratios.append(hand[-1] / client[-1])
    report.time("a million rows x 100 float32 by hand, wall", statistics.median(hand))
    report.time("a million rows through predict_batches, wall", statistics.median(client))
    report.ratio("predict_batches, of batches by hand", statistics.median(ratios), 0.9, at_most=False)


@pytest.mark.parametrize("protocol", ["gRPC", "REST"])
def test_memory(report: Report, linear: RunningServer, table: Path, protocol: str) -> None:
    """A million rows from a memory map leave the client's memory flat."""
    url = linear.grpc_url if protocol == "gRPC" else linear.rest_url
    arguments = [url, str(table), str(BATCH_SIZE), str(IN_FLIGHT)]
    done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    report.ratio(f"predict_batches {protocol}, growth of 200 MB", int(done.stdout) / 200e6, 1.0, at_most=True)

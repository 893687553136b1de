"""Requests a second of the server, next to a FastAPI app that calls the same SavedModel and to the model in-process.

Every number is a ratio within one run: the sides are measured in turn, and the median of the rounds' ratios counts.
The load generator runs on the same cores.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.benchmarks.conftest import Report
from tests.benchmarks.load import Measured, over_grpc, over_rest
from tests.servers import RunningServer, running_server
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request

pytestmark = pytest.mark.benchmark

PATH = "/v1/models/m:predict"
ROUNDS = 5
SECONDS = 2.0


def save_mlp(folder: Path) -> None:
    """Save a dense model, 784-128-10."""
    weights = [tf.Variable(tf.random.normal(shape, stddev=0.05)) for shape in ((784, 128), (128, 10))]
    biases = [tf.Variable(tf.zeros([units])) for units in (128, 10)]

    def predict(x: Any) -> Any:
        hidden = tf.nn.relu(x @ weights[0] + biases[0])
        return {"y": tf.nn.softmax(hidden @ weights[1] + biases[1])}

    _save(folder, predict, [None, 784], [*weights, *biases])


def save_cnn(folder: Path) -> None:
    """Save a convolutional model on 32x32x3: 32, 64 and 128 filters with pools between, then dense 256-128-10."""
    channels, units = (3, 32, 64, 128), (4 * 4 * 128, 256, 128, 10)
    filters = [tf.Variable(tf.random.normal((3, 3, *pair), stddev=0.05)) for pair in pairwise(channels)]
    weights = [tf.Variable(tf.random.normal(pair, stddev=0.05)) for pair in pairwise(units)]

    def predict(x: Any) -> Any:
        for kernel in filters:
            x = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), 2, 2, "SAME")
        x = tf.reshape(x, [-1, units[0]])
        for weight in weights[:-1]:
            x = tf.nn.relu(x @ weight)
        return {"y": tf.nn.softmax(x @ weights[-1])}

    _save(folder, predict, [None, 32, 32, 3], [*filters, *weights])


def _save(folder: Path, predict: Callable[[Any], Any], shape: list[int | None], variables: list[Any]) -> None:
    module = tf.Module()
    module.kept = variables
    module.predict = tf.function(predict, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    (folder / "metadata.json").write_text(json.dumps({"batchable": True}))


@dataclass(frozen=True)
class Sides:
    """The two servers over one model, and a request for each."""

    folder: Path
    ours: RunningServer
    theirs: int
    row: NDArray[Any]

    def grpc(self, rows: int = 1, *, in_flight: int = 64, seconds: float = SECONDS) -> Measured:
        """Load our server over gRPC."""
        x = np.repeat(self.row, rows, axis=0)
        request = encode_predict_request(PredictRequest(ModelSpec("m"), {"x": x}))
        return over_grpc(self.ours.grpc_target, request, in_flight=in_flight, seconds=seconds)

    def rest(self, *, in_flight: int = 64) -> Measured:
        """Load our server over REST."""
        return over_rest(self.ours.rest_port, PATH, self._body(), in_flight=in_flight, seconds=SECONDS)

    def app(self, *, in_flight: int = 64) -> Measured:
        """Load the hand-written app."""
        return over_rest(self.theirs, PATH, self._body(), in_flight=in_flight, seconds=SECONDS)

    def processor_s(self) -> float:
        """Give the processor seconds that our server has used."""
        fields = Path(f"/proc/{self.ours.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _body(self) -> bytes:
        return json.dumps({"instances": self.row.astype(float).tolist()}).encode()


@contextmanager
def both_sides(root: Path, save: Callable[[Path], None], row_shape: tuple[int, ...]) -> Iterator[Sides]:
    """Run our server and the hand-written app over one model."""
    folder = root / "models" / "m" / "1"
    save(folder)
    ports_file = root / "app.json"
    app = Path(__file__).with_name("hand_written_app.py")
    with running_server(str(root / "models"), fresh=True) as ours, (root / "app.log").open("wb") as log:
        command = [sys.executable, str(app), str(folder), str(ports_file)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not ports_file.exists():
                assert process.poll() is None, (root / "app.log").read_text()
                time.sleep(0.1)
            said = json.loads(ports_file.read_text())
            row = np.random.default_rng(0).random((1, *row_shape), np.float32)
            sides = Sides(folder, ours, said["rest"], row)
            for warm_up in (sides.app, sides.grpc, sides.rest):
                warm_up()
            yield sides
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """Both servers over the dense model."""
    with both_sides(tmp_path_factory.mktemp("mlp"), save_mlp, (784,)) as sides:
        yield sides


def _median_ratio(ours: Callable[[], float], theirs: Callable[[], float]) -> float:
    return statistics.median(ours() / theirs() for _ in range(ROUNDS))


@pytest.fixture(scope="module")
def in_flight(mlp: Sides) -> list[dict[str, float]]:
    """Requests a second with 64 in flight, one row a request, by side and round."""
    rounds = [
        {side: load().per_second for side, load in (("app", mlp.app), ("gRPC", mlp.grpc), ("REST", mlp.rest))}
        for _ in range(ROUNDS)
    ]
    medians = {side: round(statistics.median(each[side] for each in rounds)) for side in rounds[0]}
    print(f"\ndense, 64 in flight, requests a second: {medians}")
    return rounds


@pytest.mark.parametrize(("side", "target"), [("gRPC", 4), ("REST", 5)])
def test_dense_model_in_flight(in_flight: list[dict[str, float]], report: Report, side: str, target: float) -> None:
    """One row a request, 64 in flight, against the app."""
    ratio = statistics.median(each[side] / each["app"] for each in in_flight)
    report.ratio(f"dense 784-128-10, 64 in flight, {side} / app", ratio, target, at_most=False)


@pytest.mark.parametrize("side", ["gRPC", "REST"])
def test_dense_model_alone(mlp: Sides, report: Report, side: str) -> None:
    """One request at a time: the median latency against the app's."""
    load = {"gRPC": mlp.grpc, "REST": mlp.rest}[side]
    ratio = _median_ratio(lambda: load(in_flight=1).p50_s, lambda: mlp.app(in_flight=1).p50_s)
    report.ratio(f"dense, 1 in flight, p50 of {side} / app", ratio, 0.6, at_most=True)


def test_processor_time(mlp: Sides, report: Report) -> None:
    """What one request over gRPC costs the server."""
    before = mlp.processor_s()
    measured = mlp.grpc(seconds=5.0)
    cost = (mlp.processor_s() - before) / (measured.per_second * 5)
    report.time("dense, processor time a request", cost, at_most=0.4e-3)


def test_large_batch(mlp: Sides, report: Report) -> None:
    """256 rows in one request: examples a second against the signature called in this process."""
    loaded = tf.saved_model.load(str(mlp.folder))
    signature = loaded.signatures["serving_default"]
    x = np.repeat(mlp.row, 256, axis=0)

    def in_process() -> float:
        begun, calls = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            signature(x=tf.constant(x))["y"].numpy()
            calls += 1
        return calls / (time.perf_counter() - begun)

    in_process()
    ratio = _median_ratio(lambda: mlp.grpc(256, in_flight=4).per_second, in_process)
    report.ratio("dense, 256 rows a request, gRPC / in-process", ratio, 0.8, at_most=False)


def test_convolutional_model(tmp_path: Path, report: Report) -> None:
    """A model whose run is the larger part: gRPC against the app, and the server's processor time."""
    with both_sides(tmp_path, save_cnn, (32, 32, 3)) as sides:
        report.ratio(
            "conv 32-64-128, 64 in flight, gRPC / app",
            _median_ratio(lambda: sides.grpc().per_second, lambda: sides.app().per_second),
            8,
            at_most=False,
        )
        before = sides.processor_s()
        measured = sides.grpc(seconds=5.0)
        cost = (sides.processor_s() - before) / (measured.per_second * 5)
        report.time("conv, processor time a request", cost, at_most=0.85e-3)


def test_start(mlp: Sides, report: Report) -> None:
    """From the command to the first answer, beyond what the import of TensorFlow takes."""
    models_dir = str(mlp.folder.parents[1])
    beyond = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True)
        imported = time.perf_counter()
        with running_server(models_dir, fresh=True) as server:
            Sides(mlp.folder, server, 0, mlp.row).grpc(in_flight=1, seconds=0.0)
            beyond.append(time.perf_counter() - imported - (imported - begun))
    report.time("start to first answer, beyond the import", statistics.median(beyond), at_most=1.5)

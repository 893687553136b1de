"""A Keras model exported with Classify and Regress, served, and called on tf.Examples and JSON examples."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.servers import RunningServer, running_server

LABELS = ["cat", "dog", "grüner Frosch"]
ROWS = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, dict[str, NDArray[Any]]]]:
    """A server over the exported model, and what the model itself answers."""
    import keras

    from tfbundle_exporter import export_model
    from tfbundle_exporter.signatures.classify_regress import Classify, Regress

    keras.utils.set_random_seed(1)
    pixels = keras.Input((4,), name="pixels")
    scores = keras.layers.Dense(3, activation="softmax", name="scores")(pixels)
    price = keras.layers.Dense(1, name="price")(pixels)
    model = keras.Model(pixels, {"scores": scores, "price": price})
    base_path = tmp_path_factory.mktemp("models") / "animals"
    ready = (Classify(scores="scores", labels=LABELS), Regress(output="price"))
    export_model(model, base_path, example_inputs=ROWS, ready=ready)
    answers = {name: np.asarray(array) for name, array in model(ROWS).items()}
    config = tmp_path_factory.mktemp("config") / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    with running_server(str(base_path.parent), f"--monitoring_config_file={config}") as server:
        yield server, answers


def test_over_grpc(served: tuple[RunningServer, dict[str, NDArray[Any]]]) -> None:
    """The official client's examples get the model's own scores, under their labels."""
    server, answers = served
    requests_of: dict[str, Any] = {
        "classify": classification_pb2.ClassificationRequest(),
        "regress": regression_pb2.RegressionRequest(),
        "multi": inference_pb2.MultiInferenceRequest(),
    }
    for name, request in requests_of.items():
        for row in ROWS:
            feature = request.input.example_list.examples.add().features.feature["pixels"]
            feature.float_list.value.extend(row.tolist())
        if name != "multi":
            request.model_spec.name, request.model_spec.signature_name = "animals", name
    for name in ("classify", "regress"):
        task = requests_of["multi"].tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "animals", name
    with grpc.insecure_channel(server.grpc_target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        classified = stub.Classify(requests_of["classify"], timeout=20).result
        regressed = stub.Regress(requests_of["regress"], timeout=20).result
        first, second = stub.MultiInference(requests_of["multi"], timeout=20).results
    assert (first.classification_result, second.regression_result) == (classified, regressed)
    assert {tuple(each.label for each in row.classes) for row in classified.classifications} == {tuple(LABELS)}
    scores = [[each.score for each in row.classes] for row in classified.classifications]
    np.testing.assert_allclose(scores, answers["scores"], rtol=1e-5, atol=1e-6)
    prices = [[each.value] for each in regressed.regressions]
    np.testing.assert_allclose(prices, answers["price"], rtol=1e-5, atol=1e-6)


def test_over_rest(served: tuple[RunningServer, dict[str, NDArray[Any]]]) -> None:
    """So do JSON examples, the last of which shares its pixels by the context."""
    server, answers = served
    *examples, last = [{"pixels": row.tolist()} for row in ROWS]
    body = {"examples": [*examples, {}], "context": last}

    def call(verb: str) -> Any:
        document = {"signature_name": verb, **body}
        return requests.post(f"{server.rest_url}/v1/models/animals:{verb}", json=document, timeout=30).json()["results"]

    classified = call("classify")
    assert {tuple(label for label, _ in row) for row in classified} == {tuple(LABELS)}
    scores = [[score for _, score in row] for row in classified]
    np.testing.assert_allclose(scores, answers["scores"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(call("regress"), answers["price"][:, 0], rtol=1e-5, atol=1e-6)


def test_requests_at_once_get_their_own_answers(served: tuple[RunningServer, dict[str, NDArray[Any]]]) -> None:
    """An example that cannot be parsed fails its own request, and none of those that came with it."""
    server, answers = served

    def call(number: int) -> tuple[int, Any]:
        example = {"pixels": ROWS[number % len(ROWS)].tolist()} if number % 5 else {}
        document = {"signature_name": "regress", "examples": [example]}
        reply = requests.post(f"{server.rest_url}/v1/models/animals:regress", json=document, timeout=30)
        return reply.status_code, reply.json()

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(call, range(120)))
    for number, (status, reply) in enumerate(replies):
        if number % 5:
            assert status == 200
            np.testing.assert_allclose(reply["results"], answers["price"][number % len(ROWS)], rtol=1e-5, atol=1e-6)
        else:
            assert status == 400
            assert "Feature: pixels (data type: float) is required but could not be found." in reply["error"]


def test_its_warm_up_ran(served: tuple[RunningServer, dict[str, NDArray[Any]]]) -> None:
    """The exporter's Classify and Regress records were replayed before the version was served."""
    server, _ = served
    shown = requests.get(f"{server.rest_url}/monitoring/prometheus/metrics", timeout=30).text
    (line,) = [line for line in shown.splitlines() if "model_warmup_records_read{" in line]
    assert 'status="OK"' in line
    assert int(line.rsplit(" ", 1)[1]) >= 3

"""Classify, Regress and MultiInference of a running server, over both protocols."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.servers import RunningServer, running_server
from tfbundle_serving.apis.errors import ApiError, InvalidArgument
from tfbundle_serving.server.loading import VersionLoader
from tfbundle_serving.server.metrics import Metrics
from tfbundle_serving.server.settings import LoadSettings

CLASSIFY_METHOD, REGRESS_METHOD = "tensorflow/serving/classify", "tensorflow/serving/regress"


def save_even_odd(folder: Path) -> Path:
    """Save signatures on tf.Examples with a float feature `x` and an optional string `city`.

    `classify` gives the classes even and odd with scores x and -x; `scores` and `classes` one of the two; `regress`
    2 x; `column` the same as (n, 1); `cities` the city as the one class; `short` forgets an example.
    """

    def parse(inputs: Any) -> Any:
        features = {
            "x": tf.io.FixedLenFeature((), tf.float32),
            "city": tf.io.FixedLenFeature((), tf.string, default_value=""),
        }
        return tf.io.parse_example(inputs, features)

    def scores(inputs: Any) -> Any:
        x = parse(inputs)["x"]
        return tf.stack([x, -x], 1)

    def classes(inputs: Any) -> Any:
        return tf.tile(tf.constant([["even", "odd"]]), [tf.size(inputs), 1])

    outputs: dict[str, Any] = {
        "classify": lambda inputs: {"classes": classes(inputs), "scores": scores(inputs)},
        "scores": lambda inputs: {"scores": scores(inputs)},
        "classes": lambda inputs: {"classes": classes(inputs)},
        "cities": lambda inputs: {"classes": parse(inputs)["city"][:, tf.newaxis]},
        "regress": lambda inputs: {"outputs": 2 * parse(inputs)["x"]},
        "column": lambda inputs: {"outputs": 2 * parse(inputs)["x"][:, tf.newaxis]},
        "short": lambda inputs: {"outputs": parse(inputs)["x"][1:]},
    }
    module = tf.Module()
    spec = [tf.TensorSpec([None], tf.string, name="inputs")]
    signatures = {name: tf.function(body, input_signature=spec, autograph=False) for name, body in outputs.items()}
    module.functions = signatures
    tf.saved_model.save(module, str(folder), signatures={**signatures, "serving_default": signatures["classify"]})
    return folder


@pytest.fixture(scope="module")
def even_odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version folder with signatures on examples."""
    return save_even_odd(tmp_path_factory.mktemp("even_odd") / "m" / "7")


@pytest.fixture(scope="module")
def examples_server(even_odd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server over that folder, which shows its metrics."""
    config = tmp_path_factory.mktemp("config") / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    flags = (f"--model_base_path={even_odd.parent}", "--model_name=m", f"--monitoring_config_file={config}")
    with running_server(*flags) as running:
        yield running


@pytest.fixture(scope="module")
def stub(examples_server: RunningServer) -> Iterator[Any]:
    """The official PredictionService stub."""
    with grpc.insecure_channel(examples_server.grpc_target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def filled(request: Any, signature: str, *values: float, model: str = "m", city: str = "") -> Any:
    """Fill a ClassificationRequest or RegressionRequest."""
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    add_examples(request.input, *values, city=city)
    return request


def add_examples(into: Any, *values: float, city: str = "") -> None:
    """Add examples to an Input, with a context where there is a city."""
    listed = into.example_list_with_context if city else into.example_list
    for value in values:
        listed.examples.add().features.feature["x"].float_list.value.append(value)
    if city:
        listed.context.features.feature["city"].bytes_list.value.append(city.encode())


def classes_of(result: Any) -> list[list[tuple[str, float]]]:
    """Give the labels and scores of a ClassificationResult."""
    return [[(each.label, each.score) for each in row.classes] for row in result.classifications]


def test_classify(stub: Any) -> None:
    """Labels and scores, one of them, and who answered."""
    reply = stub.Classify(filled(classification_pb2.ClassificationRequest(), "", 0.5, 2.0), timeout=10)
    assert classes_of(reply.result) == [[("even", 0.5), ("odd", -0.5)], [("even", 2.0), ("odd", -2.0)]]
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("m", 7)
    assert reply.model_spec.signature_name == "serving_default"
    for signature, expected in (("scores", [("", 0.5), ("", -0.5)]), ("classes", [("even", 0.0), ("odd", 0.0)])):
        request = filled(classification_pb2.ClassificationRequest(), signature, 0.5)
        reply = stub.Classify(request, timeout=10)
        assert (classes_of(reply.result), reply.model_spec.signature_name) == ([expected], signature)


def test_the_context_reaches_every_example(stub: Any) -> None:
    """A feature of the context is one of each example."""
    request = filled(classification_pb2.ClassificationRequest(), "cities", 1, 2, city="Oslo")
    assert classes_of(stub.Classify(request, timeout=10).result) == [[("Oslo", 0.0)]] * 2


@pytest.mark.parametrize("signature", ["regress", "column"])
def test_regress(stub: Any, signature: str) -> None:
    """Numbers in a row or in a column."""
    reply = stub.Regress(filled(regression_pb2.RegressionRequest(), signature, 1.5, 0.0), timeout=10)
    assert [each.value for each in reply.result.regressions] == [3.0, 0.0]
    assert (reply.model_spec.version.value, reply.model_spec.signature_name) == (7, signature)


def test_many_examples(stub: Any) -> None:
    """Thousands are read and written on the side, in their order."""
    values = np.arange(3000, dtype=np.float32)
    reply = stub.Regress(filled(regression_pb2.RegressionRequest(), "regress", *values.tolist()), timeout=30)
    assert [each.value for each in reply.result.regressions] == (2 * values).tolist()
    reply = stub.Classify(filled(classification_pb2.ClassificationRequest(), "scores", *values.tolist()), timeout=30)
    assert [row[0][1] for row in classes_of(reply.result)] == values.tolist()


def multi(*tasks: tuple[str, str], model: str = "m") -> Any:
    """Make a MultiInferenceRequest for two examples."""
    request: Any = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = model
        task.model_spec.signature_name = signature
    add_examples(request.input, 1.0, 2.0)
    return request


def test_multi_inference(stub: Any) -> None:
    """Both methods on the same examples, each result with its own spec."""
    first, second = stub.MultiInference(multi(("regress", REGRESS_METHOD), ("", CLASSIFY_METHOD)), timeout=10).results
    assert [each.value for each in first.regression_result.regressions] == [2.0, 4.0]
    assert classes_of(second.classification_result)[1] == [("even", 2.0), ("odd", -2.0)]
    assert [each.model_spec.signature_name for each in (first, second)] == ["regress", "serving_default"]
    assert [each.model_spec.version.value for each in (first, second)] == [7, 7]


def failure(call: Any, request: Any) -> tuple[str, str]:
    """Give the code and the text with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    error: Any = caught.value
    return error.code().name, error.details()


def test_refused(stub: Any) -> None:
    """Codes and texts over gRPC."""
    empty = classification_pb2.ClassificationRequest()
    assert failure(stub.Classify, empty) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert failure(stub.Regress, filled(regression_pb2.RegressionRequest(), "", 1, model="nope")) == (
        "NOT_FOUND",
        "Servable not found for request: Latest(nope)",
    )
    nothing = filled(classification_pb2.ClassificationRequest(), "classify")
    assert failure(stub.Classify, nothing) == ("INVALID_ARGUMENT", "Input is empty.")
    unknown = filled(classification_pb2.ClassificationRequest(), "nope", 1)
    assert failure(stub.Classify, unknown) == ("INVALID_ARGUMENT", "No signature was found with the name: nope")
    short = filled(regression_pb2.RegressionRequest(), "short", 1, 2)
    assert failure(stub.Regress, short) == (
        "INVALID_ARGUMENT",
        "Input batch size did not match output batch size: 2 vs. 1",
    )
    code, text = failure(stub.Regress, filled(regression_pb2.RegressionRequest(), "classify", 1))
    assert (code, text) == ("INVALID_ARGUMENT", "Expected one output Tensor.")
    code, text = failure(stub.Classify, filled(classification_pb2.ClassificationRequest(), "regress", 1))
    assert code == "FAILED_PRECONDITION"
    assert text.startswith("Expected classification signature outputs to contain at least one of")
    no_feature = filled(regression_pb2.RegressionRequest(), "regress", 1)
    no_feature.input.example_list.examples.add()
    code, text = failure(stub.Regress, no_feature)
    assert code == "INVALID_ARGUMENT"
    assert "Feature: x (data type: float) is required but could not be found." in text


def test_refused_multi_inference(stub: Any) -> None:
    """Without a task there is no model, and one task that fails fails all."""
    nothing = inference_pb2.MultiInferenceRequest()
    assert failure(stub.MultiInference, nothing) == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")
    assert failure(stub.MultiInference, multi(("regress", "predict"))) == (
        "UNIMPLEMENTED",
        "Unsupported signature method_name: predict",
    )
    tasks = (("classify", CLASSIFY_METHOD), ("short", REGRESS_METHOD))
    code, text = failure(stub.MultiInference, multi(*tasks))
    assert (code, text[:30]) == ("INVALID_ARGUMENT", "Input batch size did not match")


def post(server: RunningServer, path: str, body: Any, **options: Any) -> tuple[int, Any]:
    """Send a body to a path below /v1/models/."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = requests.post(f"{server.rest_url}/v1/models/{path}", data=data, timeout=30, **options)
    return reply.status_code, reply.json()


EXAMPLES = [{"x": 0.5}, {"x": [2.0], "city": "Rome"}]


@pytest.mark.parametrize(
    ("path", "body", "results"),
    [
        ("m:classify", {}, [[["even", 0.5], ["odd", -0.5]], [["even", 2.0], ["odd", -2.0]]]),
        ("m/versions/7:classify", {"signature_name": "classes"}, [[["even", 0.0], ["odd", 0.0]]] * 2),
        ("m:classify", {"signature_name": "scores"}, [[["", 0.5], ["", -0.5]], [["", 2.0], ["", -2.0]]]),
        (
            "m:classify",
            {"signature_name": "cities", "context": {"city": {"b64": "T3Nsbw=="}}},
            [[["Oslo", 0.0]], [["Rome", 0.0]]],
        ),
        ("m:regress", {"signature_name": "regress"}, [1.0, 4.0]),
        ("m:regress", {"signature_name": "column"}, [1.0, 4.0]),
    ],
)
def test_rest(examples_server: RunningServer, path: str, body: Any, results: Any) -> None:
    """The same over REST."""
    body = {**body, "examples": EXAMPLES}
    assert post(examples_server, path, body) == (200, {"results": results})
    packed = gzip.compress(json.dumps(body).encode())
    headers = {"Content-Encoding": "gzip"}
    assert post(examples_server, path, packed, headers=headers) == (200, {"results": results})


def test_many_examples_over_rest(examples_server: RunningServer) -> None:
    """Thousands of them, in their order."""
    body = {"signature_name": "regress", "examples": [{"x": float(number)} for number in range(3000)]}
    assert post(examples_server, "m:regress", body) == (200, {"results": [2.0 * number for number in range(3000)]})
    body["signature_name"] = "scores"
    status, reply = post(examples_server, "m:classify", body)
    assert status == 200
    assert [row[0][1] for row in reply["results"]] == [float(number) for number in range(3000)]


ODD_NAME = (
    "JSON Value: {\n    \"signature_name\": 1\n} not formatted correctly. 'signature_name' key must be a string value."
)
REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "no JSON": ("m:classify", b"x", 400, "JSON Parse error: Invalid value. at offset: 0"),
    "no examples": (
        "m:regress",
        {},
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    ),
    "a bad body comes before an unknown model": (
        "nope:classify",
        {"examples": [1]},
        400,
        "Example must be JSON object but got JSON Number",
    ),
    "unknown model": ("nope:regress", {"examples": [{}]}, 404, "Servable not found for request: Latest(nope)"),
    "unknown version": (
        "m/versions/8:classify",
        {"examples": [{}]},
        404,
        "Servable not found for request: Specific(m, 8)",
    ),
    "unknown label": ("m/labels/l:regress", {"examples": [{}]}, 400, "Unrecognized servable version label: l"),
    "unknown signature": (
        "m:classify",
        {"signature_name": "nope", "examples": [{}]},
        400,
        "No signature was found with the name: nope",
    ),
    "an odd signature name": (
        "m:classify",
        {"signature_name": 1},
        400,
        ODD_NAME,
    ),
    "another case": ("m:Classify", {"examples": [{}]}, 400, "Malformed request: POST /v1/models/m:Classify"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_over_rest(examples_server: RunningServer, case: str) -> None:
    """Status, text and order of the checks."""
    path, body, status, text = REFUSED[case]
    assert post(examples_server, path, body) == (status, {"error": text})


def test_metrics(examples_server: RunningServer, stub: Any) -> None:
    """Calls are counted under the names of TensorFlow Serving's interfaces."""
    stub.Classify(filled(classification_pb2.ClassificationRequest(), "", 1.0), timeout=10)
    stub.Regress(filled(regression_pb2.RegressionRequest(), "regress", 1.0), timeout=10)
    stub.MultiInference(multi(("regress", REGRESS_METHOD)), timeout=10)
    assert post(examples_server, "m:regress", {"signature_name": "regress", "examples": [{"x": 1.0}]})[0] == 200
    lines = requests.get(f"{examples_server.rest_url}/monitoring/prometheus/metrics", timeout=30).text
    for api, entrypoint in (("Classify", "GRPC"), ("Regress", "GRPC"), ("regress", "REST")):
        assert f'request_latency_count{{model_name="m",API="{api}",entrypoint="{entrypoint}"}}' in lines
    for api in ("Classify", "Regress"):
        assert f'runtime_latency_count{{model_name="m",API="{api}",runtime="TF1"}}' in lines
    assert 'request_example_counts_bucket{model="m",le="2"} 0' in lines
    assert 'request_example_counts_bucket{model="m",le="4"}' in lines
    assert 'request_example_count_total{model="m"}' in lines


def records() -> dict[str, Any]:
    """Make a warm-up record of each kind, for another model than the one that it lies in."""
    made = {kind: prediction_log_pb2.PredictionLog() for kind in ("classify", "regress", "multi")}
    filled(made["classify"].classify_log.request, "scores", 1.0, model="another")
    filled(made["regress"].regress_log.request, "regress", 1.0, model="another")
    made["multi"].multi_inference_log.request.CopyFrom(multi(("classify", CLASSIFY_METHOD), model="another"))
    return made


def warm_up(folder: Path, *messages: Any) -> None:
    """Load a version with these warm-up records."""
    shutil.rmtree(folder / "assets.extra", ignore_errors=True)
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra/tf_serving_warmup_requests")) as file:
        for message in messages:
            file.write(message.SerializeToString())
    metrics = Metrics()
    VersionLoader(LoadSettings(), metrics)("m", 1, folder).close()
    assert f'records_read{{model_path="{folder}",status="OK"}} {len(messages)}' in metrics.show().decode()


def test_warm_up(even_odd: Path, tmp_path: Path) -> None:
    """Records of every kind are run, and one that fails fails the load."""
    folder = Path(shutil.copytree(even_odd, tmp_path / "1"))
    made = records()
    warm_up(folder, *made.values())
    made["regress"].regress_log.request.model_spec.signature_name = "short"
    made["classify"].classify_log.request.ClearField("input")
    made["multi"].multi_inference_log.request.tasks[0].model_spec.signature_name = "nope"
    texts = {
        "regress": "Input batch size did not match output batch size: 1 vs. 0",
        "classify": "Input is empty.",
        "multi": "Requested signature not found in model graph: nope",
    }
    for kind, text in texts.items():
        with pytest.raises(ApiError) as caught:
            warm_up(folder, made[kind])
        assert isinstance(caught.value, InvalidArgument)
        assert caught.value.message == text

"""The recorder of a running server: what it keeps, judged by the official messages, and who takes it as inputs."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
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

from tests.serving.server.conftest import wait_for
from tests.serving.server.in_process import REQUEST, channel_to, predict, refusal, serving
from tests.serving.server.test_examples_api import add_examples, filled, save_even_odd
from tfbundle_client import Client, check_parity
from tfbundle_serving.apis.prediction_log import RecordedRequest, read_prediction_logs
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.record_settings import RecordSettings

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@contextmanager
def recording(tiny_models: Path, file: Path, **settings: Any) -> Iterator[Server]:
    """Serve, and record every request."""
    with serving(tiny_models, record=RecordSettings(file=file, rate=1.0), **settings) as server:
        yield server


def official(file: Path) -> list[Any]:
    """Read a file as TensorFlow's own tools do, checksums and all."""
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]


def test_every_kind_of_request(tiny_models: Path, tmp_path: Path) -> None:
    """Over both protocols, rows and columns: the tensors that were meant, who was asked for, and who answered."""
    save_even_odd(tmp_path / "m" / "7")
    models = (
        ModelConfig(name="m", base_path=str(tmp_path / "m"), labels={"stable": 7}),
        ModelConfig(name="half_plus_two", base_path=str(tiny_models / "half_plus_two")),
    )
    begun = int(time.time())
    with recording(tiny_models, tmp_path / "log", models=models) as server, channel_to(server) as channel:
        assert predict(channel) == [3.0]
        url = f"http://127.0.0.1:{server.rest_port}/v1/models"
        for path, body in (
            ("half_plus_two/versions/123:predict", {"instances": [1.0, 2.0]}),
            ("half_plus_two:predict", {"inputs": {"x": [3.0]}, "signature_name": "serving_default"}),
            ("m/labels/stable:regress", {"signature_name": "regress", "examples": [{"x": 4.0}]}),
        ):
            assert requests.post(f"{url}/{path}", json=body, timeout=30).status_code == 200
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = filled(classification_pb2.ClassificationRequest(), "cities", 1.0, city="Oslo")
        stub.Classify(asked, timeout=30)
        several = inference_pb2.MultiInferenceRequest()
        for signature, method in (("classify", CLASSIFY), ("regress", REGRESS)):
            task = several.tasks.add(method_name=method)
            task.model_spec.name, task.model_spec.signature_name = "m", signature
        add_examples(several.input, 5.0)
        stub.MultiInference(several, timeout=30)
        # What was refused is not recorded.
        refusal(channel, REQUEST.replace(b"half_plus_two", b"half_plus_ten"))
        stubs = regression_pb2.RegressionRequest()
        with pytest.raises(grpc.RpcError):
            stub.Regress(stubs, timeout=30)
        assert requests.post(f"{url}/half_plus_two:predict", json={"inputs": "no"}, timeout=30).status_code == 400
    logs = official(tmp_path / "log")
    assert [each.WhichOneof("log_type") for each in logs] == [
        *("predict_log", "predict_log", "predict_log", "regress_log", "classify_log", "multi_inference_log"),
    ]
    asked_for = [each.predict_log.request for each in logs[:3]]
    assert [tf.make_ndarray(each.inputs["x"]).tolist() for each in asked_for] == [[2.0], [1.0, 2.0], [3.0]]
    assert [each.model_spec.version.value for each in asked_for] == [0, 123, 0]
    assert logs[3].regress_log.request.model_spec.version_label == "stable"
    assert [each.log_metadata.model_spec.version.value for each in logs] == [123, 123, 123, 7, 7, 7]
    assert logs[4].classify_log.request == asked
    assert logs[5].multi_inference_log.request == several
    assert {each.log_metadata.sampling_config.sampling_rate for each in logs} == {1.0}
    assert all(begun <= each.log_metadata.timestamp_secs <= time.time() for each in logs)
    read = list(read_prediction_logs(tmp_path / "log"))
    assert [(each.signature, each.label) for each in read[3:]] == [
        *(("regress", "stable"), ("cities", None), ("classify", None), ("regress", None)),
    ]
    assert read[0].metadata is not None
    assert (read[0].metadata.model_spec.version, read[0].metadata.sampling_rate) == (123, 1.0)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_file_goes_on(tiny_models: Path, tmp_path: Path) -> None:
    """The next server appends, behind the last whole record; metrics say how many were written."""
    file = tmp_path / "log"
    for _ in range(2):
        with recording(tiny_models, file) as server, channel_to(server) as channel:
            predict(channel)
        assert b'request_log_count{model_name="half_plus_two",status="OK"} 1' in server.metrics.show()
        with file.open("ab") as torn:
            torn.write(file.read_bytes()[:20])
    read: list[RecordedRequest] = []
    read.extend(read_prediction_logs(file, lambda *_: None))
    assert [each.inputs["x"].tolist() for each in read] == [[2.0], [2.0]]


def test_parity_takes_it(tiny_models: Path, tmp_path: Path) -> None:
    """`parity --inputs` asks what users asked, of this model alone, a torn tail or not."""
    file, kept = tmp_path / "log", tmp_path / "kept"
    models = tuple(
        ModelConfig(name=name, base_path=str(tiny_models / name)) for name in ("half_plus_two", "two_inputs")
    )
    with (
        recording(tiny_models, file, models=models) as server,
        Client(f"grpc://127.0.0.1:{server.grpc_port}") as client,
    ):
        for value in range(5):
            client.predict("half_plus_two", np.array([value, 1], np.float32))
            client.predict("two_inputs", {name: np.ones((1, 3), np.float32) for name in "ab"})
        wait_for(lambda: file.stat().st_size > 0 and len(official(file)) == 10, "ten records")
        whole = file.read_bytes()
        for content, note in ((whole, "(5 requests)"), (whole + whole[:20], f"begins at byte {len(whole)} is cut off")):
            kept.write_bytes(content)
            report = check_parity(client, "half_plus_two", against_version=123, inputs=kept)
            assert (report.verdict, report.examples) == ("equal", 10)
            assert note in report.reference

"""Warm-up records, written with the official messages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfbundle_serving.apis.errors import ApiError, DataLoss, FailedPrecondition, InvalidArgument, Unimplemented
from tfbundle_serving.config.batching import BatchingParameters, BatchingSettings
from tfbundle_serving.server.batching_run import Run, run_alone
from tfbundle_serving.server.loading import VersionLoader
from tfbundle_serving.server.metrics import Metrics
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.servable_warmup import MAX_RECORDS, replay
from tfbundle_serving.server.settings import LoadSettings


def predict_record(signature: str = "serving_default", name: str = "x") -> bytes:
    """Make a record of a predict request for another model and version than the one that it lies in."""
    record: Any = prediction_log_pb2.PredictionLog()
    request = record.predict_log.request
    request.model_spec.name = "another"
    request.model_spec.version.value = 99
    request.model_spec.signature_name = signature
    request.inputs[name].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    return bytes(record.SerializeToString())


@pytest.fixture
def folder(tiny_models: Path, tmp_path: Path) -> Path:
    """A version folder of half_plus_two that a test may change."""
    return Path(shutil.copytree(tiny_models / "half_plus_two/123", tmp_path / "m/1"))


def write(folder: Path, records: list[bytes]) -> None:
    """Write a version folder's warm-up file."""
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra/tf_serving_warmup_requests")) as file:
        for record in records:
            file.write(record)


def load(folder: Path, **settings: Any) -> Metrics:
    """Load a version as the server does; the metrics tell what happened."""
    metrics = Metrics()
    VersionLoader(LoadSettings(**settings), metrics)("m", 1, folder).close()
    return metrics


def batches(max_batch_size: int, **more: Any) -> BatchingSettings:
    """Ask for batches."""
    given = BatchingParameters(max_batch_size=max_batch_size, **{"max_execution_batch_size": max_batch_size, **more})
    return BatchingSettings(enabled=True, parameters=given)


def test_requests_are_run(folder: Path) -> None:
    """Every predict record is run, whatever model and version it names; one without a type is passed over."""
    write(folder, [predict_record(), b"", predict_record()])
    seen: list[Any] = []
    assert replay(folder, seen.append, iterations=2) == 3
    assert [request.inputs["x"].tolist() for request in seen] == [[1.0, 2.0]] * 4
    shown = load(folder).show().decode()
    assert f'model_warmup_records_read{{model_path="{folder}",status="OK"}} 3' in shown


def test_without_a_file(folder: Path) -> None:
    """No file is fine, and no warm-up is counted."""
    assert "model_warmup_latency_count{" not in load(folder).show().decode()


@pytest.mark.parametrize(
    ("record", "error", "text"),
    [
        (predict_record("nope"), FailedPrecondition, 'Serving signature key "nope" not found.'),
        (predict_record(name="z"), InvalidArgument, "Signature input alias: x"),
        (b"\xff\xff", InvalidArgument, "Failed to parse warmup record"),
        (b"\x2a\x00", Unimplemented, "Unsupported log_type for warmup: 5"),
    ],
)
def test_a_failure_fails_the_load(folder: Path, record: bytes, error: type[ApiError], text: str) -> None:
    """A version that does not survive its warm-up is not served; without warm-up nothing is read."""
    write(folder, [predict_record(), record])
    with pytest.raises(error) as caught:
        load(folder)
    assert caught.value.message.startswith(text)
    load(folder, warm_up=False)


def test_too_many_records(folder: Path) -> None:
    """The 1001st record is run, then the load fails."""
    write(folder, [b""] * MAX_RECORDS)
    assert replay(folder, lambda _: None) == 1000
    shutil.rmtree(folder / "assets.extra")
    write(folder, [b""] * (MAX_RECORDS + 1))
    with pytest.raises(InvalidArgument, match=r"^Number of warmup records exceeds the maximum \(1000\) at "):
        replay(folder, lambda _: None)


def test_a_file_that_is_no_tfrecord(folder: Path) -> None:
    """Something else under that name is said to be damaged, with TensorFlow Serving's advice."""
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra/tf_serving_warmup_requests").write_bytes(b"not a TFRecord file at all")
    with pytest.raises(DataLoss, match=r"Please verify your warmup data is in TFRecord format\.$"):
        load(folder)


def test_batches_hold_for_warm_up_too(folder: Path) -> None:
    """With --enable_batching a record that no batch can hold fails the load."""
    write(folder, [predict_record()])
    load(folder, batching=batches(2))
    with pytest.raises(InvalidArgument, match="Task size 2 is larger than maximum input batch size 1"):
        load(folder, batching=batches(1))


def test_warm_up_runs_in_the_shapes_of_batches(tmp_path: Path) -> None:
    """A record is padded to an allowed size and split where that is asked for, as the requests that follow will be."""
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"rows": tf.fill(tf.shape(x), tf.size(x))},
        input_signature=[tf.TensorSpec([None], tf.float32, name="x")],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.f)
    three = Run("serving_default", {"x": np.array([1, 2, 3], np.float32)}, ("rows",))
    cases: list[tuple[BatchingSettings, list[int]]] = [
        (BatchingSettings(), [3, 3, 3]),
        (batches(8, allowed_batch_sizes=(4, 8)), [4, 4, 4]),
        (batches(8, enable_large_batch_splitting=True, max_execution_batch_size=2), [2, 2, 1]),
    ]
    for settings, rows in cases:
        servable = Servable(tmp_path / "1", LoadSettings(batching=settings))
        assert run_alone(servable, three)["rows"].tolist() == rows
        none = Run("serving_default", {"x": np.zeros(0, np.float32)}, ("rows",))
        assert run_alone(servable, none)["rows"].tolist() == []
        servable.close()

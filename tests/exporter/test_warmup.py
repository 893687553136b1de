"""Warm-up records are what TensorFlow Serving's own classes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfbundle_exporter.folder.warmup import (
    decode_prediction_log,
    encode_prediction_log,
    read_warmup,
    warmup_requests,
    write_warmup,
)
from tfbundle_exporter.proof.reference import Reference, ask
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest


def reference(rows: int, width: int = 2) -> Reference:
    """Make reference inputs of that many rows."""
    x = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return ask(lambda inputs: {"y": inputs["x"]}, {"x": x})


def test_the_official_message_reads_it() -> None:
    """A PredictionLog of tensorflow_serving.apis has the request that was written."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    inputs = {"x": np.ones((2, 3), np.float32), "text": np.array([b"a\0", b"b"], object)}
    request = PredictRequest(ModelSpec("digits", signature="predict"), inputs)
    log = prediction_log_pb2.PredictionLog.FromString(encode_prediction_log(request))
    assert log.WhichOneof("log_type") == "predict_log"
    assert log.predict_log.request.model_spec.name == "digits"
    assert log.predict_log.request.model_spec.signature_name == "predict"
    assert not log.predict_log.request.model_spec.HasField("version")
    for name, array in inputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(log.predict_log.request.inputs[name]), array)


def test_other_records_are_refused() -> None:
    """A log of another kind is no predict request."""
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.name = "digits"
    with pytest.raises(DecodeError, match="no PredictionLog of a predict request"):
        decode_prediction_log(log.SerializeToString())


def test_each_signature_at_several_batch_sizes() -> None:
    """One, two, eight and thirty-two rows, as far as there are so many."""
    requests = warmup_requests("m", {"serving_default": reference(40), "other": reference(5)})
    sizes = [(request.model_spec.signature, len(request.inputs["x"])) for request in requests if request.model_spec]
    assert sizes == [
        *(("serving_default", size) for size in (1, 2, 8, 32)),
        *(("other", size) for size in (1, 2)),
    ]


def test_large_rows_are_sent_alone() -> None:
    """A record stays small, but there is always one."""
    requests = warmup_requests("m", {"serving_default": reference(3, width=1 << 21)})
    assert [len(request.inputs["x"]) for request in requests] == [1]


def test_the_file_round_trips(tmp_path: Path) -> None:
    """What is written is read again, record by record."""
    requests = warmup_requests("m", {"serving_default": reference(9)})
    write_warmup(tmp_path, requests)
    found = list(read_warmup(tmp_path))
    assert [request.model_spec for request in found] == [request.model_spec for request in requests]
    for mine, theirs in zip(requests, found, strict=True):
        np.testing.assert_array_equal(mine.inputs["x"], theirs.inputs["x"])

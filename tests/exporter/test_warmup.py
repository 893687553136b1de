"""Warm-up records are what TensorFlow Serving's own classes read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfbundle_exporter.folder.warmup import MAX_RECORDS, read_warmup, warmup_requests, write_warmup
from tfbundle_exporter.proof.reference import Reference, ask
from tfbundle_exporter.signatures.tf_example import encode_examples
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.prediction_log import RecordedRequest, decode_prediction_log, encode_prediction_log
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS


def reference(rows: int, width: int = 2) -> Reference:
    """Make reference inputs of that many rows."""
    x = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return ask(lambda inputs: {"y": inputs["x"]}, {"x": x})


def reference_of(inputs: NDArray[Any]) -> Reference:
    """Make reference inputs of a signature for Classify or Regress."""
    return ask(lambda given: {"scores": np.ones(len(given["inputs"]))}, {"inputs": inputs})


TEXTS = np.array([b"a", b"\xff", b""], object)
EXAMPLES = encode_examples({"x": np.arange(6, dtype="f4").reshape(3, 2), "text": TEXTS})


def test_the_official_message_reads_a_predict_record() -> None:
    """A PredictionLog of tensorflow_serving.apis has the request that was written."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    inputs = {"x": np.ones((2, 3), np.float32), "text": np.array([b"a\0", b"b"], object)}
    record = RecordedRequest(model="digits", signature="predict", inputs=inputs)
    log = prediction_log_pb2.PredictionLog.FromString(encode_prediction_log(record))
    assert log.WhichOneof("log_type") == "predict_log"
    assert log.predict_log.request.model_spec.name == "digits"
    assert log.predict_log.request.model_spec.signature_name == "predict"
    assert not log.predict_log.request.model_spec.HasField("version")
    for name, array in inputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(log.predict_log.request.inputs[name]), array)


@pytest.mark.parametrize(("method", "kind"), [(CLASSIFY_METHOD, "classify_log"), (REGRESS_METHOD, "regress_log")])
def test_the_official_message_reads_examples(method: str, kind: str) -> None:
    """Classify and regress records hold the tf.Examples themselves."""
    from tensorflow_serving.apis import prediction_log_pb2

    record = RecordedRequest(model="digits", signature="judge", inputs={"inputs": EXAMPLES}, method_name=method)
    log = prediction_log_pb2.PredictionLog.FromString(encode_prediction_log(record))
    assert log.WhichOneof("log_type") == kind
    request = getattr(log, kind).request
    assert (request.model_spec.name, request.model_spec.signature_name) == ("digits", "judge")
    assert not request.model_spec.HasField("version")
    found = [each.SerializeToString(deterministic=True) for each in request.input.example_list.examples]
    assert found == EXAMPLES.tolist()
    (read,) = decode_prediction_log(log.SerializeToString(deterministic=True))
    assert (read.signature, read.method_name, read.inputs["inputs"].tolist()) == ("judge", method, EXAMPLES.tolist())


def test_records_of_others_are_read() -> None:
    """A context belongs to each example; a multi-inference request is one record for each of its tasks."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.multi_inference_log.request
    for signature, method in {"judge": CLASSIFY_METHOD, "": REGRESS_METHOD}.items():
        task = request.tasks.add(method_name=method)
        task.model_spec.name = "digits"
        task.model_spec.signature_name = signature
    listed = request.input.example_list_with_context
    listed.context.features.feature["c"].int64_list.value.append(7)
    for value in (1, 2):
        listed.examples.add().features.feature["x"].int64_list.value.append(value)
    records = decode_prediction_log(log.SerializeToString())
    assert [(record.signature, record.method_name) for record in records] == [
        ("judge", CLASSIFY_METHOD),
        ("serving_default", REGRESS_METHOD),
    ]
    for record in records:
        parsed = [tf.train.Example.FromString(each).features.feature for each in record.inputs["inputs"]]
        assert [(each["c"].int64_list.value[0], each["x"].int64_list.value[0]) for each in parsed] == [(7, 1), (7, 2)]


def test_records_that_nobody_replays_are_refused() -> None:
    """A log of a session run is none of the kinds that servers replay."""
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.request.model_spec.name = "digits"
    with pytest.raises(DecodeError, match="no PredictionLog of a predict, classify, regress or"):
        decode_prediction_log(log.SerializeToString())


def test_each_signature_at_several_batch_sizes() -> None:
    """One, two, eight and thirty-two rows, as far as there are so many."""
    records = warmup_requests("m", {"serving_default": reference(40), "other": reference(5)})
    assert [(record.signature, len(record.inputs["x"])) for record in records] == [
        *(("serving_default", size) for size in (1, 2, 8, 32)),
        *(("other", size) for size in (1, 2)),
    ]


def test_large_rows_are_sent_alone() -> None:
    """A record stays small, but there is always one; strings count with what they hold."""
    files = np.array([bytes(5 << 20)] * 3, object)
    for large in (reference(3, width=5 << 18), ask(lambda given: {"y": given["x"]}, {"x": files})):
        assert [len(record.inputs["x"]) for record in warmup_requests("m", {"serving_default": large})] == [1]


def test_inputs_without_a_free_batch_are_sent_as_they_are() -> None:
    """A signature that is bound to three rows is warmed up with three."""
    x = np.ones((3, 2), np.float32)
    bound = ask(lambda inputs: {"y": inputs["x"]}, {"x": x}, batched=False)
    (record,) = warmup_requests("m", {"serving_default": bound})
    assert record.inputs["x"].shape == (3, 2)


@pytest.mark.parametrize("signatures", [300, 600, 1200])
def test_no_more_records_than_servers_take(signatures: int) -> None:
    """Where signatures are many, each gets fewer batch sizes, alone first."""
    same = reference(40)
    records = warmup_requests("m", {f"s{number}": same for number in range(signatures)})
    assert len(records) <= MAX_RECORDS == 1000
    assert len({record.signature for record in records}) == min(signatures, 1000)


def test_signatures_are_warmed_up_by_their_own_calls() -> None:
    """Classify and Regress where the inputs are tf.Examples; Predict where they are not, since that takes any."""
    texts = np.array([b"plain text", b"as old Estimators", b"took it"], object)
    references = {
        "c": reference_of(EXAMPLES),
        "r": reference_of(EXAMPLES),
        "old": reference_of(texts),
        "x": reference(3),
    }
    methods = {"c": CLASSIFY_METHOD, "r": REGRESS_METHOD, "old": CLASSIFY_METHOD, "x": CLASSIFY_METHOD}
    found = {record.signature: record.method_name for record in warmup_requests("m", references, methods)}
    assert found == {"c": CLASSIFY_METHOD, "r": REGRESS_METHOD, "old": PREDICT_METHOD, "x": PREDICT_METHOD}


def test_the_file_round_trips(tmp_path: Path) -> None:
    """What is written is read again, record by record."""
    references = {"serving_default": reference(9), "c": reference_of(EXAMPLES)}
    records = warmup_requests("m", references, {"c": CLASSIFY_METHOD})
    write_warmup(tmp_path, records)
    found = list(read_warmup(tmp_path))
    assert [(each.model, each.signature, each.method_name) for each in found] == [
        ("m", each.signature, each.method_name) for each in records
    ]
    for mine, theirs in zip(records, found, strict=True):
        for name, array in mine.inputs.items():
            np.testing.assert_array_equal(theirs.inputs[name], array)


def test_a_file_that_came_with_the_model_stays(tmp_path: Path) -> None:
    """The requests that somebody chose for a SavedModel are better than ours."""
    path = tmp_path / WARMUP_REQUESTS
    path.parent.mkdir()
    path.write_bytes(b"theirs")
    write_warmup(tmp_path, warmup_requests("m", {"serving_default": reference(3)}))
    assert path.read_bytes() == b"theirs"

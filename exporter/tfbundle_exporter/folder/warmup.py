"""Warm-up records: requests that a server runs before it calls a version AVAILABLE, so that no user waits for them.

assets.extra/tf_serving_warmup_requests is an uncompressed TFRecord of tensorflow.serving.PredictionLog messages. One
bad record makes TensorFlow Serving refuse the whole version, so the gate replays them first.

Source: tensorflow_serving/apis/prediction_log.proto (predict_log = 6, request = 1 in it); servables/tensorflow/
saved_model_warmup_util.h (at most 1,000 records).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_request, encode_predict_request
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS
from tfbundle_serving.apis.wire import as_view, fields, length_field, view

from ..proof.reference import Reference
from ..runtime import import_tensorflow

_PREDICT_LOG, _REQUEST = 6, 1

#: Batch sizes that are warmed up, as far as there are rows.
_BATCH_SIZES = (1, 2, 8, 32)
#: A record larger than this warms nothing that a smaller one does not.
_MAX_RECORD_BYTES = 1 << 23


def warmup_requests(model_name: str, references: Mapping[str, Reference]) -> list[PredictRequest]:
    """Make the requests: each signature at several batch sizes.

    Args:
        model_name: Stands in the requests; servers ignore it.
        references: Signature to its reference inputs.
    """
    requests = []
    for signature, reference in references.items():
        row_bytes = sum(array.nbytes for array in reference.inputs.values()) // reference.rows
        for size in _BATCH_SIZES:
            if size > reference.rows or (size > 1 and size * row_bytes > _MAX_RECORD_BYTES):
                break
            inputs = {name: array[:size] for name, array in reference.inputs.items()}
            # No version: the record is about to be replayed on whatever number the folder gets.
            requests.append(PredictRequest(ModelSpec(model_name, signature=signature), inputs))
    return requests


def encode_prediction_log(request: PredictRequest) -> bytes:
    """Write a PredictionLog that holds one predict request."""
    return length_field(_PREDICT_LOG, length_field(_REQUEST, encode_predict_request(request)))


def decode_prediction_log(record: bytes) -> PredictRequest:
    """Read a PredictionLog that holds a predict request.

    Raises:
        DecodeError: It holds something else.
    """
    for number, _, log in fields(view(record)):
        if number == _PREDICT_LOG:
            for inner, _, request in fields(as_view(log, "predict_log")):
                if inner == _REQUEST:
                    return decode_predict_request(as_view(request, "request"))
    raise DecodeError("the record is no PredictionLog of a predict request")


def write_warmup(folder: Path, requests: list[PredictRequest]) -> None:
    """Write the warm-up file of a version folder."""
    tf = import_tensorflow()
    path = folder / WARMUP_REQUESTS
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(encode_prediction_log(request))


def read_warmup(folder: Path) -> Iterator[PredictRequest]:
    """Read the warm-up file of a version folder.

    Raises:
        DecodeError: A record is no PredictionLog of a predict request.
    """
    tf = import_tensorflow()
    for record in tf.data.TFRecordDataset(str(folder / WARMUP_REQUESTS)).as_numpy_iterator():
        yield decode_prediction_log(record)

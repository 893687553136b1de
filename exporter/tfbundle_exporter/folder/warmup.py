"""Warm-up records: requests that a server runs before it calls a version AVAILABLE, so that no user waits for them.

assets.extra/tf_serving_warmup_requests is an uncompressed TFRecord of tensorflow.serving.PredictionLog messages. One
bad record makes TensorFlow Serving refuse the whole version, so the gate replays them first.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h (at most 1,000 records).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis.prediction_log import EXAMPLES, RecordedRequest, decode_prediction_log, encode_prediction_log
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from ..proof.reference import Arrays, Reference
from ..runtime import import_tensorflow

#: TensorFlow Serving does not load a version with more.
MAX_RECORDS = 1000
#: Batch sizes that are warmed up, as far as there are rows.
_BATCH_SIZES = (1, 2, 8, 32)
#: A record larger than this warms nothing that a smaller one does not.
MAX_RECORD_BYTES = 1 << 23


def warmup_requests(
    model_name: str, references: Mapping[str, Reference], methods: Mapping[str, str] | None = None
) -> list[RecordedRequest]:
    """Make the records: each signature at several batch sizes, 1,000 at most.

    Args:
        model_name: Stands in the records; servers ignore it.
        references: Signature to its reference inputs.
        methods: Signature to method name, where it is not predict.
    """
    each = max(1, MAX_RECORDS // max(1, len(references)))
    records = [
        RecordedRequest(
            model=model_name,
            signature=signature,
            inputs=inputs,
            method_name=_method_for(inputs, (methods or {}).get(signature, PREDICT_METHOD)),
        )
        for signature, reference in references.items()
        for inputs in _batches(reference)[:each]
    ]
    return records[:MAX_RECORDS]


def _batches(reference: Reference) -> list[Arrays]:
    if not reference.is_batched:
        return [reference.inputs]
    row_bytes = sum(map(_count_bytes, reference.inputs.values())) // reference.rows
    return [
        {name: array[:size] for name, array in reference.inputs.items()}
        for size in _BATCH_SIZES
        if size <= reference.rows and (size == 1 or size * row_bytes <= MAX_RECORD_BYTES)
    ]


def _method_for(inputs: Arrays, method: str) -> str:
    """Warm a signature up by the call that it is made for, where its inputs can be sent by it.

    Old Estimators exported classify signatures that take plain text; a record that holds it in the place of a
    tf.Example cannot be parsed, and the version would not load. Predict may call any signature.
    """
    if method not in (CLASSIFY_METHOD, REGRESS_METHOD) or tuple(inputs) != (EXAMPLES,) or inputs[EXAMPLES].ndim != 1:
        return PREDICT_METHOD
    from google.protobuf.message import DecodeError

    tf = import_tensorflow()
    try:
        for serialized in inputs[EXAMPLES]:
            tf.train.Example.FromString(serialized)
    except (DecodeError, TypeError):  # TypeError: numbers are no bytes
        return PREDICT_METHOD
    return method


def _count_bytes(array: NDArray[Any]) -> int:
    # An array of objects counts its pointers; encoded images are what they point at.
    return sum(map(len, array.ravel().tolist())) if array.dtype.kind == "O" else array.nbytes


def write_warmup(folder: Path, records: list[RecordedRequest]) -> None:
    """Write the warm-up file of a version folder; one that a SavedModel brought with it stays as it is."""
    tf = import_tensorflow()
    path = folder / WARMUP_REQUESTS
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(encode_prediction_log(record))


def read_warmup(folder: Path) -> Iterator[RecordedRequest]:
    """Read the warm-up file of a version folder.

    Raises:
        DecodeError: A record holds something that no server replays.
        tf.errors.DataLossError: The file is no TFRecord, or is compressed.
    """
    tf = import_tensorflow()
    for record in tf.data.TFRecordDataset(str(folder / WARMUP_REQUESTS)).as_numpy_iterator():
        yield from decode_prediction_log(record)

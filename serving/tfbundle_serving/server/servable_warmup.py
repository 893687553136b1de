"""Warm-up: recorded requests run against a version before it becomes AVAILABLE.

    assets.extra/tf_serving_warmup_requests     an uncompressed TFRecord file of PredictionLog messages

A record's model and version are ignored, its signature counts. Any failure fails the load.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc;
tensorflow_serving/apis/prediction_log.proto.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tfbundle_serving.apis.errors import DataLoss, DecodeError, InvalidArgument, Unimplemented
from tfbundle_serving.apis.examples_method import CLASSIFY, REGRESS
from tfbundle_serving.apis.input_proto import decode_examples_request
from tfbundle_serving.apis.multi_inference import decode_multi_inference_request
from tfbundle_serving.apis.predict import decode_predict_request
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS
from tfbundle_serving.apis.wire import as_view, fields, view

from .logged_requests import LoggedExamples, LoggedRequest
from .servable import to_api_error

#: TensorFlow Serving refuses a file with more records than this, after running the one too many.
MAX_RECORDS = 1000

#: Field numbers of the records that nobody can replay: session_run_log and predict_streamed_log.
_UNSUPPORTED = (5, 7)
#: Field number of a record to what reads its request.
_READERS: dict[int, Callable[[memoryview], LoggedRequest]] = {
    2: lambda request: LoggedExamples(CLASSIFY, decode_examples_request(request)),
    3: lambda request: LoggedExamples(REGRESS, decode_examples_request(request)),
    4: decode_multi_inference_request,
    6: decode_predict_request,
}


def replay(folder: Path, answer: Callable[[LoggedRequest], object], *, iterations: int = 1) -> int:
    """Run a version folder's warm-up requests.

    Args:
        folder: The version folder; it has such a file.
        answer: Runs one request; its answer is dropped.
        iterations: How often each is run.

    Returns:
        How many records there were.

    Raises:
        DataLoss: The file is no TFRecord file.
        ApiError: A record cannot be read or run, or there are too many; the version must not be served.
    """
    path = folder / WARMUP_REQUESTS
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = _read(record, path)
            if request is not None:
                for _ in range(iterations):
                    answer(request)
            count += 1
            if count > MAX_RECORDS:
                raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
    except tf.errors.DataLossError as error:
        raise DataLoss(f"{error.message}. Please verify your warmup data is in TFRecord format.") from None
    except tf.errors.OpError as error:
        raise to_api_error(error) from None
    return count


def _read(record: bytes, path: Path) -> LoggedRequest | None:
    """Read a PredictionLog; None where it holds nothing to run."""
    try:
        for number, _, value in fields(view(record)):
            if number in _UNSUPPORTED:
                raise Unimplemented(f"Unsupported log_type for warmup: {number}")
            if number in _READERS:
                return _READERS[number](_request_of(as_view(value, "log")))
    except DecodeError as error:
        raise InvalidArgument(f"Failed to parse warmup record: {error} from {path}") from error
    return None


def _request_of(log_message: memoryview) -> memoryview:
    """Find the request in a log of any type, which has its response beside it."""
    for number, _, value in fields(log_message):
        if number == 1:
            return as_view(value, "log.request")
    return memoryview(b"")

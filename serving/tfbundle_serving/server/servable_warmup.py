"""Warm-up: recorded requests run against a version before it becomes AVAILABLE.

    assets.extra/tf_serving_warmup_requests     an uncompressed TFRecord file of PredictionLog messages

A record's model and version are ignored, its signature counts. Any failure fails the load.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.cc;
tensorflow_serving/apis/prediction_log.proto.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tfbundle_serving.apis.errors import DataLoss, DecodeError, InvalidArgument, Unimplemented
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_request
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS
from tfbundle_serving.apis.wire import as_view, fields, view

from .servable import to_api_error

log = logging.getLogger(__name__)

#: TensorFlow Serving refuses a file with more records than this, after running the one too many.
MAX_RECORDS = 1000

_PREDICT_LOG = 6
#: Field numbers of the records that nobody can replay.
_UNSUPPORTED = {5: "session_run_log", 7: "predict_streamed_log"}
#: Those whose calls this server does not serve: there is nothing to warm up for them.
_NOT_SERVED = {2: "classify_log", 3: "regress_log", 4: "multi_inference_log"}


def replay(folder: Path, predict: Callable[[PredictRequest], object], *, iterations: int = 1) -> int:
    """Run a version folder's warm-up requests.

    Args:
        folder: The version folder.
        predict: Runs one request; its answer is dropped.
        iterations: How often each is run.

    Returns:
        How many records there were; 0 where there is no file.

    Raises:
        DataLoss: The file is no TFRecord file.
        ApiError: A record cannot be read or run, or there are too many; the version must not be served.
    """
    path = folder / WARMUP_REQUESTS
    if not path.exists():
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = _read(record, path)
            if request is not None:
                for _ in range(iterations):
                    predict(request)
            count += 1
            if count > MAX_RECORDS:
                raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
    except tf.errors.DataLossError as error:
        raise DataLoss(f"{error.message}. Please verify your warmup data is in TFRecord format.") from None
    except tf.errors.OpError as error:
        raise to_api_error(error) from None
    return count


def _read(record: bytes, path: Path) -> PredictRequest | None:
    """Read a PredictionLog; None where it holds nothing to run."""
    try:
        for number, _, value in fields(view(record)):
            if number in _UNSUPPORTED:
                raise Unimplemented(f"Unsupported log_type for warmup: {number}")
            if number in _NOT_SERVED:
                log.warning("%s: a warm-up record of type %s is passed over", path, _NOT_SERVED[number])
                return None
            if number == _PREDICT_LOG:
                return _read_predict_log(as_view(value, "predict_log"))
    except DecodeError as error:
        raise InvalidArgument(f"Failed to parse warmup record: {error} from {path}") from error
    return None


def _read_predict_log(log_message: memoryview) -> PredictRequest:
    for number, _, value in fields(log_message):
        if number == 1:
            return decode_predict_request(as_view(value, "predict_log.request"))
    return PredictRequest(None, {})

"""Warm-up by requests that a server recorded (`tfbundle serve --record`), in place of those made of the examples.

Real requests have the batch sizes and shapes that users send. A recorder's file holds more than a warm-up may, and
often requests to other models: those that fit the version are taken, evenly over the file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.prediction_log import RecordedRequest, decode_prediction_log
from tfbundle_serving.apis.signatures import PREDICT_METHOD, TensorSpec
from tfbundle_serving.apis.tfrecord import frame, read_records
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from .warmup import MAX_RECORD_BYTES, MAX_RECORDS

logger = logging.getLogger(__name__)

#: Bytes of a warm-up file; each load reads and runs all of it.
_MAX_BYTES = 64 << 20


def choose_recorded(path: Path, model_name: str, signatures: Mapping[str, Mapping[str, TensorSpec]]) -> list[bytes]:
    """Choose the records of a file that warm a version up.

    Where any of them was sent to a model of the version's name, only those to it count.

    Args:
        path: A TFRecord file of PredictionLogs.
        model_name: The version's model.
        signatures: Its signatures: name to what each input takes.

    Returns:
        PredictionLogs as they are in the file, 1,000 requests and 64 MiB at most.

    Raises:
        ExportError: The file cannot be read, or holds no request that fits.
    """

    def say_torn(at: int, _: int) -> None:
        # A server may be writing it, or was killed while it did.
        logger.warning("%s: what begins at byte %d is cut off and was left out", path, at)

    try:
        records = [_look(record, signatures) for record in read_records(path, say_torn)]
    except DecodeError as error:
        raise ExportError(f"recorded warm-up requests {path}: {error}") from error
    except OSError as error:
        raise ExportError(f"recorded warm-up requests {path} cannot be read: {error.strerror or error}") from error
    is_ours = any(model == model_name for _, model in records if model is not None)
    fitting = [
        (place, size)
        for place, (size, model) in enumerate(records)
        if model is not None and (model == model_name or not is_ours)
    ]
    if not fitting:
        names = ", ".join(sorted(signatures))
        raise ExportError(
            f"{path} holds {len(records)} recorded requests, and none that fits a signature of this version ({names}) "
            f"and has at most {MAX_RECORD_BYTES} bytes"
        )
    mean = sum(size for _, size in fitting) / len(fitting)
    count = min(len(fitting), MAX_RECORDS, max(1, int(_MAX_BYTES / mean)))
    wanted = {fitting[number * len(fitting) // count][0] for number in range(count)}
    logger.info("took %d of the %d requests recorded in %s to warm up", count, len(records), path)
    return [record for place, record in enumerate(read_records(path, lambda *_: None)) if place in wanted]


def _look(record: bytes, signatures: Mapping[str, Mapping[str, TensorSpec]]) -> tuple[int, str | None]:
    """Give a record's size and model; no model where it does not fit."""
    requests = decode_prediction_log(record)
    # A record of several inferences is run as one; the limit counts requests, so it is left to simpler ones.
    fits = len(requests) == 1 and len(record) <= MAX_RECORD_BYTES and _fits(requests[0], signatures)
    return len(record), requests[0].model if fits else None


def _fits(request: RecordedRequest, signatures: Mapping[str, Mapping[str, TensorSpec]]) -> bool:
    specs = signatures.get(request.signature, {})
    return request.inputs.keys() == specs.keys() and (
        # Those of Classify and Regress are examples; what is in them only the graph can tell.
        request.method_name != PREDICT_METHOD
        or all(_takes(specs[name], array) for name, array in request.inputs.items())
    )


def _takes(spec: TensorSpec, array: NDArray[Any]) -> bool:
    """Tell whether an input takes an array; a version may take other sizes than the one that was recorded."""
    if dtypes.of_numpy(array.dtype) is not spec.dtype:
        return False
    return spec.shape is None or (
        len(spec.shape) == array.ndim
        and all(wanted in (None, given) for wanted, given in zip(spec.shape, array.shape, strict=True))
    )


def write_recorded(folder: Path, records: list[bytes]) -> None:
    """Write the warm-up file of a version folder, in place of one that a SavedModel brought with it."""
    path = folder / WARMUP_REQUESTS
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        for piece in frame([[record] for record in records]):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())

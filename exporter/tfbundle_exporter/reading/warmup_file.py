"""assets.extra/tf_serving_warmup_requests: one bad record makes TensorFlow Serving refuse the whole version.

Source: tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.apis.prediction_log import decode_prediction_log
from tfbundle_serving.apis.tfrecord import read_records
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from .ailments import Ailment, command, error

#: TensorFlow Serving refuses a file with more.
MAX_RECORDS = 1000


def check_warmup_file(folder: Path) -> Iterator[Ailment]:
    """Look at a version folder's warm-up file without running anything."""
    path = folder / WARMUP_REQUESTS
    remedy = f"{command('rm', path)}  (it is served without; the first requests are slower)"
    count = 0
    try:
        for record in read_records(path):
            count += 1
            decode_prediction_log(record)
    except BundleError as damage:
        yield error(
            folder,
            f"has a warm-up file that is broken after {count} record(s), so that servers refuse it: {damage}",
            remedy,
        )
        return
    if count > MAX_RECORDS:
        yield error(folder, f"has {count} warm-up records; servers refuse more than {MAX_RECORDS}", remedy)

"""assets.extra/tf_serving_warmup_requests: one bad record makes TensorFlow Serving refuse the whole version.

A TFRecord file is records one behind the other: length (8 bytes), checksum of the length (4), data, checksum of it (4).

Source: tensorflow/core/lib/io/record_writer.h; tensorflow_serving/servables/tensorflow/saved_model_warmup_util.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError, DecodeError
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from ..folder.prediction_log import decode_prediction_log
from .ailments import Ailment, command, error

#: TensorFlow Serving refuses a file with more.
MAX_RECORDS = 1000
_GZIP_MAGIC = b"\x1f\x8b"
#: CRC-32C (Castagnoli), bit-reversed.
_POLYNOMIAL = 0x82F63B78


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


def read_records(path: Path) -> Iterator[bytes]:
    """Read the records of an uncompressed TFRecord file; lengths are checked by their checksums, data is not.

    Raises:
        DecodeError: The file is compressed, cut off, or none.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.read(2) == _GZIP_MAGIC:
            raise DecodeError(f"{path.name} is compressed, expected a plain TFRecord file")
        file.seek(0)
        while head := file.read(12):
            if len(head) != 12:
                raise DecodeError(f"{path.name} is cut off")
            length, checksum = struct.unpack("<QI", head)
            if checksum != _masked_crc(head[:8]):
                raise DecodeError(f"{path.name} is no TFRecord file, or is damaged")
            record = file.read(length)
            if len(record) != length or len(file.read(4)) != 4:
                raise DecodeError(f"{path.name} is cut off")
            yield record


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

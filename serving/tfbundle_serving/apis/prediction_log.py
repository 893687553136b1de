"""Recorded requests: what servers log, and what warm-up files hold.

    a TFRecord file      records one behind the other: length (8 bytes), its checksum (4), data, its checksum (4)
    PredictionLog        classify_log = 2, regress_log = 3, multi_inference_log = 4, predict_log = 6; request = 1 in all

Source: tensorflow/core/lib/io/record_writer.h; tensorflow_serving/apis/prediction_log.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import DecodeError
from .input_proto import decode_examples_request
from .model_spec import DEFAULT_SIGNATURE, ModelSpec
from .multi_inference import decode_multi_inference_request
from .predict import Arrays, decode_predict_request
from .wire import as_view, fields, view

#: The one input of a signature that Classify and Regress call.
EXAMPLES = "inputs"

_GZIP_MAGIC = b"\x1f\x8b"
#: CRC-32C (Castagnoli), bit-reversed.
_POLYNOMIAL = 0x82F63B78
_REQUEST = 1


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One recorded request to one signature.

    Attributes:
        model: Model name in the record, or "".
        signature: The signature's name.
        inputs: Alias to array; serialized tf.Examples under "inputs" for Classify and Regress.
    """

    model: str
    signature: str
    inputs: Arrays


def read_prediction_logs(path: str | os.PathLike[str]) -> Iterator[RecordedRequest]:
    """Read the requests of a TFRecord file of PredictionLogs, such as a version's warm-up file.

    A multi-inference request is given as one for each of its tasks.

    Raises:
        DecodeError: The file is compressed, cut off, none, or holds something else; the message names it.
        OSError: It cannot be read.
    """
    place = 0
    try:
        for record in read_records(path):
            place += 1
            yield from decode_prediction_log(record)
    except DecodeError as error:
        raise DecodeError(f"{path}, record {place}: {error}") from error


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Read the records of an uncompressed TFRecord file; lengths are checked by their checksums, data is not.

    Raises:
        DecodeError: The file is compressed, cut off, or none.
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        if file.read(2) == _GZIP_MAGIC:
            raise DecodeError("it is compressed, expected a plain TFRecord file")
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        while head := file.read(12):
            if len(head) != 12:
                raise DecodeError("it is cut off, or is no TFRecord file")
            length, checksum = struct.unpack("<QI", head)
            if checksum != _masked_crc(head[:8]):
                raise DecodeError("it is no TFRecord file, or is damaged")
            if length + 4 > size - file.tell():
                raise DecodeError("it is cut off")
            yield file.read(length)
            file.seek(4, os.SEEK_CUR)


def decode_prediction_log(data: bytes) -> list[RecordedRequest]:
    """Read a PredictionLog: one request, or a multi-inference request as one for each of its tasks.

    Raises:
        DecodeError: It holds no request of these kinds.
    """
    for number, _, log in fields(view(data)):
        read = _READERS.get(number)
        if read is None:
            continue
        for inner, _, request in fields(as_view(log, "log")):
            if inner == _REQUEST:
                return read(as_view(request, "log.request"))
    raise DecodeError("no PredictionLog of a predict, classify, regress or multi-inference request")


def _read_predict(data: memoryview) -> list[RecordedRequest]:
    request = decode_predict_request(data)
    return [_record(request.model_spec, request.inputs)]


def _read_examples(data: memoryview) -> list[RecordedRequest]:
    request = decode_examples_request(data)
    return [_record(request.model_spec, {EXAMPLES: request.input.to_array()})] if request.input.examples else []


def _read_multi_inference(data: memoryview) -> list[RecordedRequest]:
    request = decode_multi_inference_request(data)
    if not request.input.examples:
        return []
    inputs = {EXAMPLES: request.input.to_array()}
    return [_record(task.model_spec, inputs) for task in request.tasks]


def _record(spec: ModelSpec | None, inputs: Arrays) -> RecordedRequest:
    return RecordedRequest(spec.name if spec else "", spec.signature_key if spec else DEFAULT_SIGNATURE, inputs)


#: Field number of a PredictionLog to what reads its request.
_READERS: Mapping[int, Callable[[memoryview], list[RecordedRequest]]] = {
    2: _read_examples,
    3: _read_examples,
    4: _read_multi_inference,
    6: _read_predict,
}


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

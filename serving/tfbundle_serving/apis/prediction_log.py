"""Recorded requests: what servers log, and what warm-up files hold, to and from PredictionLog messages.

    a TFRecord file      records one behind the other: length (8 bytes), its checksum (4), data, its checksum (4)
    PredictionLog        classify_log = 2, regress_log = 3, multi_inference_log = 4, predict_log = 6; request = 1 in all

Source: tensorflow/core/lib/io/record_writer.h; tensorflow_serving/apis/prediction_log.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .errors import DecodeError
from .input_proto import ExamplesRequest, Input, decode_examples_request, encode_examples_request
from .model_spec import ModelSpec
from .multi_inference import decode_multi_inference_request
from .predict import Arrays, PredictRequest, decode_predict_request, encode_predict_request
from .signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from .wire import as_view, fields, length_field, view

#: The one input of a signature that Classify and Regress call.
EXAMPLES = "inputs"

_GZIP_MAGIC = b"\x1f\x8b"
#: CRC-32C (Castagnoli), bit-reversed.
_POLYNOMIAL = 0x82F63B78
_REQUEST = 1
#: Method name to the field of PredictionLog.
_LOGS = {CLASSIFY_METHOD: 2, REGRESS_METHOD: 3, PREDICT_METHOD: 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One recorded request to one signature.

    Attributes:
        signature: The signature's name.
        inputs: Alias to array; serialized tf.Examples under "inputs" for Classify and Regress.
        method_name: Which call it is: a predict, classify or regress method name.
        model: Model name in the record, or ""; servers that replay it look past it.
    """

    signature: str
    inputs: Arrays
    method_name: str = PREDICT_METHOD
    model: str = ""


def encode_prediction_log(record: RecordedRequest) -> bytes:
    """Write a PredictionLog that holds one request.

    Raises:
        KeyError: The method name is none of predict, classify and regress.
    """
    # No version: the record is about to be replayed on whatever number the folder gets.
    spec = ModelSpec(record.model, signature=record.signature)
    if record.method_name == PREDICT_METHOD:
        request = encode_predict_request(PredictRequest(spec, record.inputs))
    else:
        request = encode_examples_request(ExamplesRequest(spec, Input(record.inputs[EXAMPLES].tolist())))
    return length_field(_LOGS[record.method_name], length_field(_REQUEST, request))


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
    return [_record(request.model_spec, request.inputs, PREDICT_METHOD)]


def _read_examples(data: memoryview, method_name: str) -> list[RecordedRequest]:
    request = decode_examples_request(data)
    return [_record(request.model_spec, _examples(request.input), method_name)]


def _read_multi_inference(data: memoryview) -> list[RecordedRequest]:
    request = decode_multi_inference_request(data)
    inputs = _examples(request.input)
    return [_record(task.model_spec, inputs, task.method_name) for task in request.tasks]


def _examples(given: Input) -> Arrays:
    # Without any, servers answer "Input is empty."; what a record holds is told all the same.
    return {EXAMPLES: given.to_array() if given.examples else np.empty(0, object)}


def _record(spec: ModelSpec | None, inputs: Arrays, method_name: str) -> RecordedRequest:
    spec = spec or ModelSpec("")
    return RecordedRequest(model=spec.name, signature=spec.signature_key, inputs=inputs, method_name=method_name)


#: Field number of a PredictionLog to what reads its request.
_READERS: Mapping[int, Callable[[memoryview], list[RecordedRequest]]] = {
    2: partial(_read_examples, method_name=CLASSIFY_METHOD),
    3: partial(_read_examples, method_name=REGRESS_METHOD),
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

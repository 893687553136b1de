"""Recorded requests: what servers log, and what warm-up files hold, to and from PredictionLog messages.

    a TFRecord file      one PredictionLog each (see `tfrecord`)
    PredictionLog        log_metadata = 1; classify_log = 2, regress_log = 3, multi_inference_log = 4, predict_log = 6;
                         request = 1 in all of these
    LogMetadata          model_spec = 1, sampling_config = 2 {sampling_rate = 1}, timestamp_secs = 4

Source: tensorflow_serving/apis/prediction_log.proto, logging.proto; tensorflow_serving/config/logging_config.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .errors import DecodeError
from .input_proto import ExamplesRequest, Input, decode_examples_request, encode_examples_request
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .multi_inference import MultiInferenceRequest, decode_multi_inference_request, encode_multi_inference_request
from .predict import Arrays, PredictRequest, decode_predict_request, predict_request_chunks
from .signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from .tfrecord import OnTornTail, read_records
from .wire import (
    FIXED64,
    LENGTH,
    Chunk,
    as_int,
    as_view,
    fields,
    length_field,
    size_of,
    tag,
    varint,
    varint_field,
    view,
)

#: The one input of a signature that Classify and Regress call.
EXAMPLES = "inputs"

_METADATA, _REQUEST = 1, 1
_MULTI_INFERENCE = 4
#: Method name to the field of PredictionLog.
_LOGS = {CLASSIFY_METHOD: 2, REGRESS_METHOD: 3, PREDICT_METHOD: 6}

#: What a server was asked.
Request = PredictRequest | ExamplesRequest | MultiInferenceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One recorded request to one signature.

    Attributes:
        signature: The signature's name.
        inputs: Alias to array; serialized tf.Examples under "inputs" for Classify and Regress.
        method_name: Which call it is: a predict, classify or regress method name.
        model: Model name in the record, or ""; servers that replay it look past it.
        version: The version that was asked for; None where none was, and in what is to be written.
        label: The version label that was asked for; likewise.
        metadata: What the server that recorded it said of it; None where it said nothing.
    """

    signature: str
    inputs: Arrays
    method_name: str = PREDICT_METHOD
    model: str = ""
    version: int | None = None
    label: str | None = None
    metadata: LogMetadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMetadata:
    """What a server says of a request that it recorded.

    Attributes:
        model_spec: Name, version and signature that answered.
        sampling_rate: The probability with which a request was recorded, 0 to 1.
        timestamp_s: When, in whole seconds since 1970.
    """

    model_spec: ModelSpec
    sampling_rate: float = 0.0
    timestamp_s: int = 0


def encode_prediction_log(record: RecordedRequest) -> bytes:
    """Write a PredictionLog that holds one request.

    Raises:
        KeyError: The method name is none of predict, classify and regress.
    """
    # No version: the record is about to be replayed on whatever number the folder gets.
    spec = ModelSpec(record.model, signature=record.signature)
    request: Request
    if record.method_name == PREDICT_METHOD:
        request = PredictRequest(spec, record.inputs)
    else:
        request = ExamplesRequest(spec, Input(record.inputs[EXAMPLES].tolist()))
    return b"".join(prediction_log_chunks(request, record.method_name))


def prediction_log_chunks(request: Request, method_name: str, metadata: LogMetadata | None = None) -> list[Chunk]:
    """Write a PredictionLog as pieces to be joined; large values are views of the arrays, not copies.

    Args:
        request: As it was asked.
        method_name: Which call it is: a predict, classify or regress method name; MultiInference has its own.
        metadata: What is said of it; None = nothing.

    Raises:
        KeyError: The method name is none of these.
        InvalidArgument: An input has no TensorFlow dtype; the message names it.
    """
    chunks: list[Chunk]
    if isinstance(request, PredictRequest):
        chunks = predict_request_chunks(request)
    elif isinstance(request, ExamplesRequest):
        chunks = [encode_examples_request(request)]
    else:
        chunks = [encode_multi_inference_request(request)]
    field = _MULTI_INFERENCE if isinstance(request, MultiInferenceRequest) else _LOGS[method_name]
    size = size_of(chunks)
    request_head = tag(_REQUEST, LENGTH) + varint(size)
    head = tag(field, LENGTH) + varint(len(request_head) + size) + request_head
    about = b"" if metadata is None else length_field(_METADATA, _encode_metadata(metadata))
    return [about + head, *chunks]


def _encode_metadata(metadata: LogMetadata) -> bytes:
    sampling = tag(1, FIXED64) + struct.pack("<d", metadata.sampling_rate)
    return (
        length_field(1, encode_model_spec(metadata.model_spec))
        + length_field(2, sampling)
        + varint_field(4, metadata.timestamp_s)
    )


def _decode_metadata(data: memoryview) -> LogMetadata:
    spec, rate, timestamp_s = ModelSpec(""), 0.0, 0
    for number, _, value in fields(data):
        if number == 1:
            spec = decode_model_spec(as_view(value, "log_metadata.model_spec"))
        elif number == 2:
            for inner, wire_type, content in fields(as_view(value, "log_metadata.sampling_config")):
                if inner == 1 and wire_type == FIXED64:
                    (rate,) = struct.unpack("<d", as_view(content, "sampling_rate"))
        elif number == 4:
            timestamp_s = as_int(value, "log_metadata.timestamp_secs")
    return LogMetadata(model_spec=spec, sampling_rate=rate, timestamp_s=timestamp_s)


def read_prediction_logs(
    path: str | os.PathLike[str], on_torn_tail: OnTornTail | None = None
) -> Iterator[RecordedRequest]:
    """Read the requests of a TFRecord file of PredictionLogs, such as a version's warm-up file.

    A multi-inference request is given as one for each of its tasks.

    Args:
        path: The file.
        on_torn_tail: Told where the file ends within a record (see `tfrecord.read_records`); None makes that an error.

    Raises:
        DecodeError: The file is compressed, cut off, none, or holds something else; the message names it.
        OSError: It cannot be read.
    """
    place = 0
    try:
        for record in read_records(path, on_torn_tail):
            place += 1
            yield from decode_prediction_log(record)
    except DecodeError as error:
        raise DecodeError(f"{path}, record {place}: {error}") from error


def decode_prediction_log(data: bytes) -> list[RecordedRequest]:
    """Read a PredictionLog: one request, or a multi-inference request as one for each of its tasks.

    Raises:
        DecodeError: It holds no request of these kinds.
    """
    metadata: LogMetadata | None = None
    found: list[RecordedRequest] | None = None
    for number, _, log in fields(view(data)):
        if number == _METADATA:
            metadata = _decode_metadata(as_view(log, "log_metadata"))
        read = _READERS.get(number)
        if read is None:
            continue
        for inner, _, request in fields(as_view(log, "log")):
            if inner == _REQUEST:
                found = read(as_view(request, "log.request"))
    if found is None:
        raise DecodeError("no PredictionLog of a predict, classify, regress or multi-inference request")
    return found if metadata is None else [replace(each, metadata=metadata) for each in found]


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
    return RecordedRequest(
        model=spec.name,
        signature=spec.signature_key,
        inputs=inputs,
        method_name=method_name,
        version=spec.version,
        label=spec.label,
    )


#: Field number of a PredictionLog to what reads its request.
_READERS: Mapping[int, Callable[[memoryview], list[RecordedRequest]]] = {
    2: partial(_read_examples, method_name=CLASSIFY_METHOD),
    3: partial(_read_examples, method_name=REGRESS_METHOD),
    4: _read_multi_inference,
    6: _read_predict,
}

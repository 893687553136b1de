"""One warm-up record: a request of any kind that servers replay, to and from a PredictionLog message.

    PredictionLog      classify_log = 2, regress_log = 3, multi_inference_log = 4, predict_log = 6; request = 1 in each
    Classification- and RegressionRequest    model_spec = 1, input = 2
    MultiInferenceRequest                    tasks = 1 {model_spec = 1, method_name = 2}, input = 2
    Input                example_list = 1 {examples = 1}, example_list_with_context = 2 {examples = 1, context = 2}

Source: tensorflow_serving/apis/prediction_log.proto, classification.proto, inference.proto, input.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.model_spec import ModelSpec, decode_model_spec, encode_model_spec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_request, encode_predict_request
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from tfbundle_serving.apis.wire import as_text, as_view, fields, length_field, view

#: Method name to the field of PredictionLog.
_LOGS = {CLASSIFY_METHOD: 2, REGRESS_METHOD: 3, PREDICT_METHOD: 6}
_METHODS = {number: method for method, number in _LOGS.items()}
_MULTI_INFERENCE_LOG = 4
_REQUEST = 1
#: The one input of a signature that Classify and Regress call.
EXAMPLES = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupRecord:
    """One request to a signature.

    Attributes:
        signature: The signature's name.
        inputs: Alias to array; serialized tf.Examples under "inputs" for Classify and Regress.
        method_name: Which call it is: a predict, classify or regress method name.
        model_name: Stands in the record; servers ignore it.
    """

    signature: str
    inputs: Mapping[str, NDArray[Any]]
    method_name: str = PREDICT_METHOD
    model_name: str = ""


def encode_prediction_log(record: WarmupRecord) -> bytes:
    """Write a PredictionLog that holds one request.

    Raises:
        KeyError: The method name is none of predict, classify and regress.
    """
    # No version: the record is about to be replayed on whatever number the folder gets.
    spec = ModelSpec(record.model_name, signature=record.signature)
    if record.method_name == PREDICT_METHOD:
        request = encode_predict_request(PredictRequest(spec, record.inputs))
    else:
        examples = b"".join(length_field(1, bytes(example)) for example in record.inputs[EXAMPLES])
        request = length_field(1, encode_model_spec(spec)) + length_field(2, length_field(1, examples))
    return length_field(_LOGS[record.method_name], length_field(_REQUEST, request))


def decode_prediction_log(data: bytes) -> list[WarmupRecord]:
    """Read a PredictionLog: one request, or a multi-inference request as one for each of its tasks.

    Raises:
        DecodeError: It holds something that no server replays.
    """
    for number, _, log in fields(view(data)):
        if number not in _METHODS and number != _MULTI_INFERENCE_LOG:
            continue
        for inner, _, request in fields(as_view(log, "log")):
            if inner != _REQUEST:
                continue
            body = as_view(request, "request")
            if number == _LOGS[PREDICT_METHOD]:
                return [_decode_predict(body)]
            return _decode_with_examples(body, _METHODS.get(number, ""))
    raise DecodeError("the record is no PredictionLog of a predict, classify, regress or multi-inference request")


def _decode_predict(data: memoryview) -> WarmupRecord:
    request = decode_predict_request(data)
    spec = request.model_spec or ModelSpec("")
    return WarmupRecord(model_name=spec.name, signature=spec.signature_key, inputs=request.inputs)


def _decode_with_examples(data: memoryview, method_name: str) -> list[WarmupRecord]:
    """Read a request whose input is a list of examples; without a method name, it has several tasks with their own."""
    tasks: list[tuple[ModelSpec, str]] = []
    examples: list[bytes] = []
    for number, _, value in fields(data):
        if number == 1 and method_name:
            tasks = [(decode_model_spec(as_view(value, "model_spec")), method_name)]
        elif number == 1:
            tasks.append(_decode_task(as_view(value, "tasks")))
        elif number == 2:
            examples = _decode_input(as_view(value, "input"))
    array = np.empty(len(examples), object)
    array[:] = examples
    return [
        WarmupRecord(model_name=spec.name, signature=spec.signature_key, inputs={EXAMPLES: array}, method_name=method)
        for spec, method in tasks or [(ModelSpec(""), method_name)]
    ]


def _decode_task(data: memoryview) -> tuple[ModelSpec, str]:
    spec, method = ModelSpec(""), ""
    for number, _, value in fields(data):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            method = as_text(value, "method_name")
    return spec, method


def _decode_input(data: memoryview) -> list[bytes]:
    examples: list[bytes] = []
    for kind, _, listed in fields(data):
        if kind not in (1, 2):
            continue
        found, context = [], b""
        for number, _, value in fields(as_view(listed, "examples")):
            if number == 1:
                found.append(bytes(as_view(value, "example")))
            elif number == 2 and kind == 2:
                context = bytes(as_view(value, "context"))
        # Messages merge by standing one behind the other: the context's features are part of each example.
        examples = [context + example for example in found]
    return examples

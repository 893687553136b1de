"""MultiInference: several signatures of one version, all on the same examples.

    MultiInferenceRequest{tasks: [{model_spec, method_name: "tensorflow/serving/classify"}, ...], input}
    MultiInferenceResponse{results: [{model_spec, classification_result}, {model_spec, regression_result}]}

Source: tensorflow_serving/apis/inference.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .classification import Classifications, decode_classifications, encode_classifications
from .errors import DecodeError
from .input_proto import Input, decode_input, encode_input
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .regression import Regressions, decode_regressions, encode_regressions
from .wire import Readable, as_text, as_view, fields, length_field, string_field, view


@dataclass(frozen=True, slots=True)
class InferenceTask:
    """One signature to run.

    Attributes:
        model_spec: Model, version or label, signature; None where the wire message had none.
        method_name: "tensorflow/serving/classify" or "tensorflow/serving/regress".
    """

    model_spec: ModelSpec | None
    method_name: str


@dataclass(frozen=True, slots=True)
class MultiInferenceRequest:
    """What to run, and on what."""

    tasks: Sequence[InferenceTask]
    input: Input


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """The answer to one task, with who answered."""

    model_spec: ModelSpec
    result: Classifications | Regressions


def encode_multi_inference_request(request: MultiInferenceRequest) -> bytes:
    """Write a MultiInferenceRequest."""
    tasks = b"".join(length_field(1, _encode_task(task)) for task in request.tasks)
    return tasks + length_field(2, encode_input(request.input))


def _encode_task(task: InferenceTask) -> bytes:
    spec = b"" if task.model_spec is None else length_field(1, encode_model_spec(task.model_spec))
    return spec + (string_field(2, task.method_name) if task.method_name else b"")


def decode_multi_inference_request(data: Readable) -> MultiInferenceRequest:
    """Read a MultiInferenceRequest.

    Raises:
        DecodeError: The bytes are not one.
    """
    tasks: list[InferenceTask] = []
    parts: list[bytes] = []
    for number, _, value in fields(view(data)):
        if number == 1:
            tasks.append(_decode_task(as_view(value, "tasks")))
        elif number == 2:
            parts.append(bytes(as_view(value, "input")))
    return MultiInferenceRequest(tasks, decode_input(b"".join(parts)))


def _decode_task(data: memoryview) -> InferenceTask:
    spec: ModelSpec | None = None
    method_name = ""
    for number, _, value in fields(data):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            method_name = as_text(value, "method_name")
    return InferenceTask(spec, method_name)


def encode_multi_inference_response(results: Sequence[InferenceResult]) -> bytes:
    """Write a MultiInferenceResponse."""
    return b"".join(length_field(1, _encode_result(result)) for result in results)


def _encode_result(each: InferenceResult) -> bytes:
    spec = length_field(1, encode_model_spec(each.model_spec))
    if isinstance(each.result, Classifications):
        return spec + length_field(2, encode_classifications(each.result))
    return spec + length_field(3, encode_regressions(each.result))


def decode_multi_inference_response(data: Readable) -> list[InferenceResult]:
    """Read a MultiInferenceResponse.

    Raises:
        DecodeError: The bytes are not one, or a result is empty.
    """
    found = fields(view(data))
    return [_decode_result(as_view(value, "results")) for number, _, value in found if number == 1]


def _decode_result(data: memoryview) -> InferenceResult:
    spec = ModelSpec("")
    result: Classifications | Regressions | None = None
    for number, _, value in fields(data):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            result = decode_classifications(as_view(value, "classification_result"))
        elif number == 3:
            result = decode_regressions(as_view(value, "regression_result"))
    if result is None:
        raise DecodeError("an inference result is neither a classification nor a regression")
    return InferenceResult(spec, result)

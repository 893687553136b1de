"""PredictRequest and PredictResponse.

Source: tensorflow_serving/apis/predict.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DecodeError, InvalidArgument, Unimplemented
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .tensor_proto import decode_tensor, tensor_field_chunks
from .wire import Chunk, Readable, as_text, as_view, fields, length_field, read_map_entry, string_field, view

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """One call of a signature.

    Attributes:
        model_spec: Model, version or label, signature; None where the wire message had none.
        inputs: Alias to array.
        output_filter: Aliases of the wanted outputs; empty means all.
    """

    model_spec: ModelSpec | None
    inputs: Arrays
    output_filter: Sequence[str] = ()


class UnreadableInputError(InvalidArgument):
    """A tensor of a request cannot be read.

    TensorFlow Serving says so only once it has found the model, the signature and the alias.

    Attributes:
        request: The request without its values: each input is an empty array.
    """

    def __init__(self, message: str, request: PredictRequest) -> None:
        super().__init__(message)
        self.request = request


@dataclass(frozen=True, slots=True)
class PredictResponse:
    """The answer: what was asked for, with the version that answered, and alias to array."""

    model_spec: ModelSpec
    outputs: Arrays = field(default_factory=dict)


def encode_predict_request(request: PredictRequest) -> bytes:
    """Write a PredictRequest, tensors as tensor_content.

    Raises:
        InvalidArgument: An input has no TensorFlow dtype; the message names it.
    """
    return b"".join(predict_request_chunks(request))


def predict_request_chunks(request: PredictRequest) -> list[Chunk]:
    """Write a PredictRequest as pieces to be joined; large values are views of the arrays, not copies.

    Raises:
        InvalidArgument: An input has no TensorFlow dtype; the message names it.
    """
    chunks: list[Chunk] = []
    if request.model_spec is not None:
        chunks.append(length_field(1, encode_model_spec(request.model_spec)))
    for alias, array in request.inputs.items():
        chunks += tensor_field_chunks(2, alias, array)
    chunks += [string_field(3, alias) for alias in request.output_filter]
    return chunks


def decode_predict_request(data: Readable) -> PredictRequest:
    """Read a PredictRequest; arrays are read-only views into `data` where possible.

    Raises:
        DecodeError: The bytes are not a PredictRequest.
        UnreadableInputError: A tensor cannot be read, or its dtype is none that a tensor could have; its alias is
            named.
    """
    spec: ModelSpec | None = None
    inputs: dict[str, NDArray[Any]] = {}
    output_filter: list[str] = []
    unreadable = ""
    cause: Exception | None = None
    for number, _, value in fields(view(data)):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            alias, tensor = read_map_entry(as_view(value, "inputs"), "inputs")
            try:
                inputs[alias] = decode_tensor(tensor)
            except (DecodeError, Unimplemented) as error:
                inputs[alias] = np.empty(0)
                if cause is None:
                    unreadable, cause = alias, error
        elif number == 3:
            output_filter.append(as_text(value, "output_filter"))
    if cause is not None:
        empty = dict.fromkeys(inputs, np.empty(0))
        # The words of tensorflow/cc/saved_model/util.cc.
        text = f"tensor parsing error: {unreadable}"
        raise UnreadableInputError(text, PredictRequest(spec, empty, output_filter)) from cause
    return PredictRequest(spec, inputs, output_filter)


def encode_predict_response(response: PredictResponse, *, typed: bool = True) -> bytes:
    """Write a PredictResponse.

    Args:
        response: The answer.
        typed: Use the typed value fields, as TensorFlow Serving does by default; False writes tensor_content.
    """
    chunks: list[Chunk] = [length_field(2, encode_model_spec(response.model_spec))]
    for alias, array in response.outputs.items():
        chunks += tensor_field_chunks(1, alias, array, typed=typed)
    return b"".join(chunks)


def decode_predict_response(data: Readable) -> PredictResponse:
    """Read a PredictResponse; arrays are read-only views into `data` where possible.

    Raises:
        DecodeError: The bytes are not a PredictResponse.
        Unimplemented: An output has a dtype without numpy form.
    """
    spec = ModelSpec("")
    outputs: dict[str, NDArray[Any]] = {}
    for number, _, value in fields(view(data)):
        if number == 1:
            alias, tensor = read_map_entry(as_view(value, "outputs"), "outputs")
            outputs[alias] = decode_tensor(tensor)
        elif number == 2:
            spec = decode_model_spec(as_view(value, "model_spec"))
    return PredictResponse(spec, outputs)

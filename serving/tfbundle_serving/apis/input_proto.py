"""What Classify, Regress and MultiInference take: serialized examples, with or without a context that all share.

    Input{example_list: {examples: [...]}}
    Input{example_list_with_context: {examples: [...], context: {...}}}

Examples stay serialized, since that is what the graph parses. A ClassificationRequest and a RegressionRequest are the
same on the wire; both are an ExamplesRequest here.

Source: tensorflow_serving/apis/input.proto, classification.proto, regression.proto;
tensorflow_serving/servables/tensorflow/util.cc (InputToSerializedExampleTensor).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidArgument
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .wire import Readable, as_view, fields, length_field, view

_LIST, _LIST_WITH_CONTEXT = 1, 2


@dataclass(frozen=True, slots=True)
class Input:
    """Examples.

    Attributes:
        examples: A serialized tf.Example each.
        context: A serialized tf.Example with features that every example has; None for none.
    """

    examples: Sequence[bytes] = ()
    context: bytes | None = None

    def to_array(self) -> NDArray[Any]:
        """Give what a graph parses.

        Returns:
            Object array (n,) of bytes. The context stands before each example: protobuf merges messages that follow
            each other, and of two features with one name the example's counts.

        Raises:
            InvalidArgument: There are no examples.
        """
        if not self.examples:
            raise InvalidArgument("Input is empty.")
        array = np.empty(len(self.examples), object)
        array[:] = [self.context + each for each in self.examples] if self.context else list(self.examples)
        return array


@dataclass(frozen=True, slots=True)
class ExamplesRequest:
    """A ClassificationRequest or a RegressionRequest.

    Attributes:
        model_spec: Model, version or label, signature; None where the wire message had none.
        input: The examples.
    """

    model_spec: ModelSpec | None
    input: Input


def encode_input(value: Input) -> bytes:
    """Write a tensorflow.serving.Input."""
    examples = b"".join(length_field(1, example) for example in value.examples)
    if value.context is None:
        return length_field(_LIST, examples)
    return length_field(_LIST_WITH_CONTEXT, examples + length_field(2, value.context))


def decode_input(data: Readable) -> Input:
    """Read a tensorflow.serving.Input; of the two kinds, a oneof, the last on the wire counts.

    Raises:
        DecodeError: The bytes are not one; the examples themselves are left to the graph.
    """
    kind = 0
    examples: list[bytes] = []
    context: bytes | None = None
    for number, _, content in fields(view(data)):
        if number not in (_LIST, _LIST_WITH_CONTEXT):
            continue
        if number != kind:
            kind, examples, context = number, [], None
        for inner, _, value in fields(as_view(content, "input")):
            if inner == 1:
                examples.append(bytes(as_view(value, "examples")))
            elif inner == 2 and kind == _LIST_WITH_CONTEXT:
                context = (context or b"") + bytes(as_view(value, "context"))
    return Input(examples, context)


def encode_examples_request(request: ExamplesRequest) -> bytes:
    """Write a ClassificationRequest or RegressionRequest."""
    spec = b"" if request.model_spec is None else length_field(1, encode_model_spec(request.model_spec))
    return spec + length_field(2, encode_input(request.input))


def decode_examples_request(data: Readable) -> ExamplesRequest:
    """Read a ClassificationRequest or RegressionRequest.

    Raises:
        DecodeError: The bytes are not one.
    """
    spec: ModelSpec | None = None
    parts: list[bytes] = []
    for number, _, value in fields(view(data)):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
        elif number == 2:
            parts.append(bytes(as_view(value, "input")))
    return ExamplesRequest(spec, decode_input(b"".join(parts)))

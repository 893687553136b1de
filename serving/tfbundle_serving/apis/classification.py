"""What Classify answers: for each example its classes, each with a label and a score.

    ClassificationResponse{result: {classifications: [{classes: [{label: "cat", score: 0.9}, ...]}, ...]}, model_spec}

Source: tensorflow_serving/apis/classification.proto.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DecodeError
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .wire import FIXED32, LENGTH, Readable, as_view, fields, length_field, tag, varint, view

_CLASS = tag(1, LENGTH)
_SCORE = tag(2, FIXED32)
_NO_BYTES = b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Classifications:
    """Classes of n examples.

    Attributes:
        labels: Object array (n, k) of bytes; None where the model gives none, "" on the wire.
        scores: float32 (n, k); None where the model gives none, 0 on the wire.
    """

    labels: NDArray[Any] | None
    scores: NDArray[np.float32] | None

    @property
    def shape(self) -> tuple[int, int]:
        """How many examples, and how many classes each has."""
        array = self.scores if self.labels is None else self.labels
        return (array.shape[0], array.shape[1]) if array is not None else (0, 0)


@dataclass(frozen=True, slots=True)
class ClassificationResponse:
    """The answer, with who answered."""

    model_spec: ModelSpec
    result: Classifications


def encode_classifications(result: Classifications) -> bytes:
    """Write a ClassificationResult; what is empty or 0 is left out, as proto3 does."""
    examples, count = result.shape
    labels = [b""] * (examples * count)
    if result.labels is not None:
        flat = result.labels.ravel().tolist()
        # There are few different ones as a rule.
        written = {label: length_field(1, label) if label else b"" for label in set(flat)}
        labels = [written[label] for label in flat]
    scores = [b""] * (examples * count)
    if result.scores is not None:
        raw = result.scores.astype("<f4").tobytes()
        quads = [raw[at : at + 4] for at in range(0, len(raw), 4)]
        scores = [b"" if quad == _NO_BYTES else _SCORE + quad for quad in quads]
    bodies = [label + score for label, score in zip(labels, scores, strict=True)]
    heads = {size: _CLASS + varint(size) for size in set(map(len, bodies))}
    classes = [heads[len(body)] + body for body in bodies]
    return b"".join(length_field(1, b"".join(classes[row * count : (row + 1) * count])) for row in range(examples))


def decode_classifications(data: Readable) -> Classifications:
    """Read a ClassificationResult.

    Raises:
        DecodeError: The bytes are not one, or examples differ in their number of classes.
    """
    rows: list[list[tuple[bytes, float]]] = []
    for number, _, row in fields(view(data)):
        if number == 1:
            found = fields(as_view(row, "classifications"))
            rows.append([_decode_class(as_view(value, "classes")) for inner, _, value in found if inner == 1])
    count = len(rows[0]) if rows else 0
    if any(len(classes) != count for classes in rows):
        raise DecodeError("examples differ in their number of classes")
    labels = np.empty((len(rows), count), object)
    scores = np.zeros((len(rows), count), np.float32)
    for place, classes in enumerate(rows):
        for column, (label, score) in enumerate(classes):
            labels[place, column] = label
            scores[place, column] = score
    return Classifications(labels, scores)


def _decode_class(data: memoryview) -> tuple[bytes, float]:
    label, score = b"", 0.0
    for number, wire_type, value in fields(data):
        if number == 1:
            label = bytes(as_view(value, "label"))
        elif number == 2:
            if wire_type != FIXED32:
                raise DecodeError("score is not a float")
            (score,) = struct.unpack("<f", as_view(value, "score"))
    return label, score


def encode_classification_response(response: ClassificationResponse) -> bytes:
    """Write a ClassificationResponse."""
    return length_field(1, encode_classifications(response.result)) + length_field(
        2, encode_model_spec(response.model_spec)
    )


def decode_classification_response(data: Readable) -> ClassificationResponse:
    """Read a ClassificationResponse.

    Raises:
        DecodeError: The bytes are not one.
    """
    spec, result = ModelSpec(""), decode_classifications(b"")
    for number, _, value in fields(view(data)):
        if number == 1:
            result = decode_classifications(as_view(value, "result"))
        elif number == 2:
            spec = decode_model_spec(as_view(value, "model_spec"))
    return ClassificationResponse(spec, result)

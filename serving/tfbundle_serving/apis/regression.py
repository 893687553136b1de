"""What Regress answers: one number for each example.

    RegressionResponse{result: {regressions: [{value: 2.5}, ...]}, model_spec}

Source: tensorflow_serving/apis/regression.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import DecodeError
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .wire import FIXED32, Readable, as_view, fields, length_field, tag, view

_VALUE = tag(1, FIXED32)
_ZERO = b"\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Regressions:
    """One number for each of n examples.

    Attributes:
        values: float32 (n,).
    """

    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RegressionResponse:
    """The answer, with who answered."""

    model_spec: ModelSpec
    result: Regressions


def encode_regressions(result: Regressions) -> bytes:
    """Write a RegressionResult; a value of 0 is an empty Regression, as proto3 does it."""
    raw = result.values.astype("<f4").tobytes()
    quads = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    return b"".join(length_field(1, b"" if quad == _ZERO else _VALUE + quad) for quad in quads)


def decode_regressions(data: Readable) -> Regressions:
    """Read a RegressionResult.

    Raises:
        DecodeError: The bytes are not one.
    """
    found = fields(view(data))
    quads = [_decode_regression(as_view(value, "regressions")) for number, _, value in found if number == 1]
    return Regressions(np.frombuffer(b"".join(quads), "<f4").astype(np.float32))


def _decode_regression(data: memoryview) -> bytes:
    quad = _ZERO
    for number, wire_type, value in fields(data):
        if number == 1:
            if wire_type != FIXED32:
                raise DecodeError("value is not a float")
            quad = bytes(as_view(value, "value"))
    return quad


def encode_regression_response(response: RegressionResponse) -> bytes:
    """Write a RegressionResponse."""
    return length_field(1, encode_regressions(response.result)) + length_field(
        2, encode_model_spec(response.model_spec)
    )


def decode_regression_response(data: Readable) -> RegressionResponse:
    """Read a RegressionResponse.

    Raises:
        DecodeError: The bytes are not one.
    """
    spec, result = ModelSpec(""), decode_regressions(b"")
    for number, _, value in fields(view(data)):
        if number == 1:
            result = decode_regressions(as_view(value, "result"))
        elif number == 2:
            spec = decode_model_spec(as_view(value, "model_spec"))
    return RegressionResponse(spec, result)

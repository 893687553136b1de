"""Which messages are read and written on the event loop, and which on a thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfbundle_serving.apis.predict import PredictRequest, encode_predict_request
from tfbundle_serving.apis.tensor_proto import encode_tensor
from tfbundle_serving.apis.wire import length_field, string_field
from tfbundle_serving.server.grpc_weight import is_heavy_to_read, is_heavy_to_write

FLOATS = np.ones((500, 784), np.float32)
INTS = np.arange(200_000, dtype=np.int32)
STRINGS = np.array([b"text"] * 50_000, object)


def request(array: Any, *, typed: bool) -> bytes:
    """Write a PredictRequest, its tensor in either form."""
    return length_field(2, string_field(1, "x") + length_field(2, encode_tensor(array, typed=typed)))


@pytest.mark.parametrize(
    ("array", "typed", "is_heavy"),
    [
        (FLOATS, False, False),
        (FLOATS, True, False),
        (FLOATS.astype(np.float16), False, False),
        (FLOATS.astype(np.float16), True, True),
        (INTS, False, False),
        (INTS, True, True),
        (INTS[:1000], True, False),
        (STRINGS, False, True),
        (STRINGS, True, True),
        (STRINGS[:10], True, False),
    ],
)
def test_what_is_heavy(array: Any, typed: bool, is_heavy: bool) -> None:
    """Blocks are light however large; what is read value by value is heavy once there is much of it."""
    assert is_heavy_to_read(request(array, typed=typed)) is is_heavy
    assert is_heavy_to_write([array], typed=typed) is is_heavy


def test_many_of_a_kind() -> None:
    """A message of very many small tensors is heavy; one that is none is found out where it is read."""
    tensors = {f"input {number}": np.ones(100, np.float32) for number in range(1000)}
    assert is_heavy_to_read(encode_predict_request(PredictRequest(None, tensors, [])))
    assert not is_heavy_to_read(b"\xff" * 100_000)
    assert is_heavy_to_write([np.ones(10_000_000, np.float32)], typed=True)

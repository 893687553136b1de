"""Messages gathered from pieces."""

from __future__ import annotations

import numpy as np
import pytest

from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_request, encode_predict_request
from tfbundle_serving.server.grpc_messages import MessageReader


@pytest.mark.parametrize("name", ["x", "image", "a much longer name"])
@pytest.mark.parametrize("piece", [1 << 14, 100_003])
def test_a_large_tensor_is_where_tensorflow_can_use_it(name: str, piece: int) -> None:
    """What comes in pieces is whole again, and its array begins on a boundary of 64 bytes, whatever stands before."""
    x = np.random.default_rng(0).random((256, 784), np.float32)
    message = encode_predict_request(PredictRequest(ModelSpec("m"), {name: x}))
    data = b"\0" + len(message).to_bytes(4, "big") + message
    reader = MessageReader(1 << 30)
    ends = [reader.feed(data, at, min(len(data), at + piece)) for at in range(0, len(data), piece)]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert reader.message is not None
    array = decode_predict_request(reader.message).inputs[name]
    np.testing.assert_array_equal(array, x)
    assert array.ctypes.data % 64 == 0
    assert not array.flags.writeable

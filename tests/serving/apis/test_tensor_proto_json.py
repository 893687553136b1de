"""TensorProto as JSON, against protobuf's own."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.tensor_proto_json import tensor_proto_to_json

#: One of each field; TensorFlow's own writer chooses between values and tensor_content.
TENSORS: dict[str, Any] = {
    "nothing": tensor_pb2.TensorProto(),
    "float": tf.make_tensor_proto(0.1),
    "not finite": tensor_pb2.TensorProto(dtype=1, float_val=[np.inf, -np.inf, np.nan, 1e-7, 3e38]),
    "double": tf.make_tensor_proto(0.1, tf.float64),
    "half": tf.make_tensor_proto(1.5, tf.float16),
    "int": tf.make_tensor_proto(-3),
    "int8": tf.make_tensor_proto(-3, tf.int8),
    "int64": tf.make_tensor_proto(-(1 << 62), tf.int64),
    "uint32": tf.make_tensor_proto((1 << 32) - 1, tf.uint32),
    "uint64": tf.make_tensor_proto((1 << 64) - 1, tf.uint64),
    "bool": tensor_pb2.TensorProto(dtype=10, bool_val=[True, False]),
    "complex": tf.make_tensor_proto(1 + 2j, tf.complex64),
    "complex128": tf.make_tensor_proto(1 + 2j, tf.complex128),
    "strings": tf.make_tensor_proto([b"\xff", b"", b"text"]),
    "content": tf.make_tensor_proto(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "shape": tensor_pb2.TensorProto(tensor_shape={"dim": [{"size": -1, "name": "n"}, {}], "unknown_rank": True}),
    "version": tensor_pb2.TensorProto(version_number=3, float8_val=b"\x01"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_it_is_protobufs(name: str) -> None:
    """The same fields with the same values, those at their defaults too."""
    shown = json_format.MessageToJson(
        TENSORS[name], always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    assert json.loads(json.dumps(tensor_proto_to_json(TENSORS[name].SerializeToString()))) == json.loads(shown)


def test_what_is_no_tensor() -> None:
    """Bytes that are cut off are refused."""
    with pytest.raises(DecodeError):
        tensor_proto_to_json(TENSORS["content"].SerializeToString()[:-1])

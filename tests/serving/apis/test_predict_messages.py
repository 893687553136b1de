"""PredictRequest and PredictResponse against the official classes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.serving.apis.arrays import EVERY_DTYPE, array_of, same_bits
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import (
    PredictRequest,
    PredictResponse,
    decode_predict_request,
    decode_predict_response,
    encode_predict_request,
    encode_predict_response,
)

SPEC = ModelSpec("digits", version=3, signature="embed")


def test_a_request_with_every_dtype_is_read_by_the_official_class() -> None:
    """Spec, inputs of all dtypes and output_filter arrive in the official PredictRequest."""
    inputs = {dtype.name: array_of(dtype) for dtype in EVERY_DTYPE}
    message = encode_predict_request(PredictRequest(SPEC, inputs, ["y", "z"]))
    official = predict_pb2.PredictRequest.FromString(message)
    assert (official.model_spec.name, official.model_spec.version.value) == ("digits", 3)
    assert official.model_spec.signature_name == "embed"
    assert list(official.output_filter) == ["y", "z"]
    assert set(official.inputs) == set(inputs)
    for name, array in inputs.items():
        assert tf.make_ndarray(official.inputs[name]).tolist() == array.tolist()


def test_a_request_of_the_official_class_is_read() -> None:
    """A PredictRequest as TensorFlow's own helpers build it comes out whole, fields of later releases stepped over."""
    official = predict_pb2.PredictRequest(output_filter=["y"])
    official.model_spec.name = "digits"
    official.model_spec.version_label = "canary"
    arrays = {dtype.name: array_of(dtype) for dtype in EVERY_DTYPE}
    for dtype in EVERY_DTYPE:
        array = arrays[dtype.name]
        made = tf.make_tensor_proto(array.tolist() if dtype.is_string else array, dtype=dtype.number, shape=array.shape)
        official.inputs[dtype.name].CopyFrom(made)
    later_field = b"\x3a\x02id"  # 7, client_id
    request = decode_predict_request(official.SerializeToString() + later_field)
    assert request.model_spec == ModelSpec("digits", label="canary")
    assert request.output_filter == ["y"]
    assert request.inputs.keys() == arrays.keys()
    assert all(same_bits(request.inputs[name], array) for name, array in arrays.items())


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "content"])
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_responses_go_both_ways(dtype: DType, typed: bool) -> None:
    """A PredictResponse is read by the official class, and its bytes by us."""
    array = array_of(dtype)
    message = encode_predict_response(PredictResponse(SPEC, {"y": array}), typed=typed)
    official = predict_pb2.PredictResponse.FromString(message)
    assert tf.make_ndarray(official.outputs["y"]).tolist() == array.tolist()
    assert official.outputs["y"].tensor_content == b"" or not typed
    again = decode_predict_response(official.SerializeToString())
    assert again.model_spec == SPEC
    assert same_bits(again.outputs["y"], array)


def test_a_request_without_spec_or_inputs_is_a_request() -> None:
    """Nothing on the wire is an empty request; what that means is for the server to say."""
    assert decode_predict_request(b"") == PredictRequest(None, {}, [])
    assert encode_predict_request(PredictRequest(None, {})) == b""


def test_an_input_sent_twice_counts_once() -> None:
    """Of two map entries with one key the last counts, as in the official class."""
    messages = [encode_predict_request(PredictRequest(None, {"x": np.array([n], np.float32)})) for n in (1.0, 2.0)]
    official = predict_pb2.PredictRequest.FromString(b"".join(messages))
    assert decode_predict_request(b"".join(messages)).inputs["x"].tolist() == [2.0]
    assert tf.make_ndarray(official.inputs["x"]).tolist() == [2.0]


def test_an_input_without_dtype_is_named() -> None:
    """What TensorFlow has no dtype for is refused before it is sent, with the input's name."""
    with pytest.raises(InvalidArgument, match="when: numpy dtype datetime64"):
        encode_predict_request(PredictRequest(SPEC, {"when": np.array(["2024-01-01"], "datetime64[D]")}))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_message_is_refused(cut: int) -> None:
    """A message that ends too early is a DecodeError."""
    message = encode_predict_request(PredictRequest(SPEC, {"x": np.arange(64, dtype=np.float32)}))
    with pytest.raises(DecodeError):
        decode_predict_request(message[:-cut])

"""Signatures and GetModelMetadata, on the wire and as JSON, against the official classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.model_metadata import (
    MetadataRequest,
    ModelMetadata,
    decode_metadata_request,
    decode_metadata_response,
    encode_metadata_request,
    encode_metadata_response,
    metadata_from_json,
    metadata_to_json,
)
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import (
    INIT_OP_SIGNATURE,
    Signature,
    TensorSpec,
    decode_signature,
    encode_signature,
    signature_from_json,
    signature_to_json,
)

SIGNATURES = {
    "serving_default": Signature(
        {
            "image": TensorSpec(dtypes.FLOAT, (None, 8, 8, 1), "serving_default_image:0"),
            "flag": TensorSpec(dtypes.BOOL, (), "serving_default_flag:0"),
        },
        {
            "label": TensorSpec(dtypes.STRING, None, "StatefulPartitionedCall:0"),
            "empty": TensorSpec(dtypes.BFLOAT16, (None, 0), "StatefulPartitionedCall:1"),
        },
    ),
    INIT_OP_SIGNATURE: Signature({}, {INIT_OP_SIGNATURE: TensorSpec(dtypes.by_number(0), None, "NoOp")}, ""),
}
METADATA = ModelMetadata("digits", 7, SIGNATURES)


def official_signature(signature: Signature) -> Any:
    """The same signature as the official message."""
    message = meta_graph_pb2.SignatureDef(method_name=signature.method_name)
    for mine, theirs in ((signature.inputs, message.inputs), (signature.outputs, message.outputs)):
        for alias, spec in mine.items():
            info = theirs[alias]
            info.name = spec.tensor_name
            info.dtype = types_pb2.DataType.Value(spec.dtype.enum_name)
            info.tensor_shape.CopyFrom(tf.TensorShape(spec.shape).as_proto())
    return message


def official_response() -> Any:
    """The same metadata as the official message."""
    signature_map = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in SIGNATURES.items():
        signature_map.signature_def[name].CopyFrom(official_signature(signature))
    message = get_model_metadata_pb2.GetModelMetadataResponse()
    message.model_spec.name = "digits"
    message.model_spec.version.value = 7
    message.metadata["signature_def"].Pack(signature_map)
    return message


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_goes_both_ways(name: str) -> None:
    """A SignatureDef is written and read as the official class does it."""
    signature = SIGNATURES[name]
    assert meta_graph_pb2.SignatureDef.FromString(encode_signature(signature)) == official_signature(signature)
    assert decode_signature(official_signature(signature).SerializeToString()) == signature


def test_defaults_survive() -> None:
    """The tensors that stand in for left-out inputs are kept as they are."""
    signature = Signature({}, {}, "", {"x": tf.make_tensor_proto(1.5).SerializeToString()})
    message = meta_graph_pb2.SignatureDef.FromString(encode_signature(signature))
    assert tf.make_ndarray(message.defaults["x"]) == 1.5
    assert decode_signature(message.SerializeToString()) == signature
    shown = signature_to_json(signature)["defaults"]["x"]
    assert (shown["dtype"], shown["float_val"]) == ("DT_FLOAT", [1.5])


def test_the_response_goes_both_ways() -> None:
    """Metadata packed into an Any is written and read as the official class does it."""
    theirs = get_model_metadata_pb2.GetModelMetadataResponse.FromString(encode_metadata_response(METADATA))
    unpacked = get_model_metadata_pb2.SignatureDefMap()
    assert theirs.metadata["signature_def"].Unpack(unpacked)
    expected = get_model_metadata_pb2.SignatureDefMap()
    official_response().metadata["signature_def"].Unpack(expected)
    assert unpacked == expected
    assert theirs.model_spec == official_response().model_spec
    assert decode_metadata_response(official_response().SerializeToString()) == METADATA


def test_the_request_goes_both_ways() -> None:
    """The request carries the spec and the wanted fields."""
    request = MetadataRequest(ModelSpec("digits", label="canary"), ["signature_def"])
    message = get_model_metadata_pb2.GetModelMetadataRequest.FromString(encode_metadata_request(request))
    assert (message.model_spec.version_label, list(message.metadata_field)) == ("canary", ["signature_def"])
    assert decode_metadata_request(message.SerializeToString()) == request
    assert decode_metadata_request(b"") == MetadataRequest(None, [])


def test_the_json_is_the_official_one() -> None:
    """The REST body is protobuf's JSON of the response, with the Any in the form TensorFlow Serving gives it."""
    signature_map = get_model_metadata_pb2.SignatureDefMap()
    official_response().metadata["signature_def"].Unpack(signature_map)

    def as_json(message: Any) -> Any:
        return json.loads(
            json_format.MessageToJson(
                message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
            )
        )

    assert metadata_to_json(METADATA) == {
        "model_spec": as_json(official_response().model_spec),
        "metadata": {"signature_def": as_json(signature_map)},
    }
    assert metadata_from_json(json.loads(json.dumps(metadata_to_json(METADATA)))) == METADATA


def test_sparse_json_is_read() -> None:
    """Keys at their defaults may be absent, as protobuf's plain JSON leaves them out."""
    plain = json_format.MessageToDict(
        official_signature(SIGNATURES["serving_default"]), preserving_proto_field_name=True
    )
    assert signature_from_json(plain) == SIGNATURES["serving_default"]


def test_the_pseudo_signature_cannot_be_called() -> None:
    """TensorFlow's init operation is listed by the server, and is not offered to callers."""
    assert list(METADATA.callable_signatures) == ["serving_default"]


def test_specs_read_as_a_person_says_them() -> None:
    """A spec shows numpy's dtype name and a question mark for any size."""
    inputs, outputs = SIGNATURES["serving_default"].inputs, SIGNATURES["serving_default"].outputs
    assert str(inputs["image"]) == "float32 (?, 8, 8, 1)"
    assert str(inputs["flag"]) == "bool ()"
    assert str(outputs["label"]) == "string of any rank"


@pytest.mark.parametrize("body", [{}, {"model_spec": {}}, {"metadata": 1}, {"error": "no"}], ids=str)
def test_other_json_is_refused(body: dict[str, Any]) -> None:
    """A body that is no metadata is a DecodeError, not a KeyError."""
    with pytest.raises(DecodeError, match="not model metadata"):
        metadata_from_json(body)

"""TensorFlow Serving's own generated service classes with a model behind them that returns its input.

Requests are read and replies written by the official protobuf classes and TensorFlow, so that nothing of our codec
stands on this side of the wire.
"""

from __future__ import annotations

from typing import Any

import grpc
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.models import DTYPES

MODEL, VERSION = "identities", 7


def signature_map() -> Any:
    """The signatures: one a dtype and `<dtype>_fields`, whose reply has typed values instead of tensor_content."""
    found = get_model_metadata_pb2.SignatureDefMap()
    for name in DTYPES:
        dtype = tf.as_dtype(name).as_datatype_enum
        for signature in (name, f"{name}_fields"):
            definition = found.signature_def[signature]
            definition.method_name = "tensorflow/serving/predict"
            for alias, info in (("x", definition.inputs["x"]), ("y", definition.outputs["y"])):
                info.CopyFrom(meta_graph_pb2.TensorInfo(name=f"{alias}:0", dtype=dtype))
                info.tensor_shape.unknown_rank = True
    return found


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict and GetModelMetadata."""

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Echo x as y."""
        if request.model_spec.name != MODEL:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({request.model_spec.name})"
            )
        reply = predict_pb2.PredictResponse()
        reply.model_spec.name = MODEL
        reply.model_spec.version.value = VERSION
        reply.model_spec.signature_name = request.model_spec.signature_name
        sent = request.inputs["x"]
        assert types_pb2.DataType.Name(sent.dtype)
        if request.model_spec.signature_name.endswith("_fields"):
            reply.outputs["y"].CopyFrom(_with_typed_values(tf.make_ndarray(sent), sent))
        else:
            reply.outputs["y"].CopyFrom(sent)
        return reply

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        """List the signatures."""
        if request.model_spec.name != MODEL:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({request.model_spec.name})"
            )
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.model_spec.name = MODEL
        reply.model_spec.version.value = VERSION
        reply.metadata["signature_def"].Pack(signature_map())
        return reply


class Models(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """GetModelStatus."""

    def GetModelStatus(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """Report one version that is loading and one that is AVAILABLE."""
        assert request.model_spec.name == MODEL
        reply = get_model_status_pb2.GetModelStatusResponse()
        reply.model_version_status.add(version=VERSION, state=30)
        reply.model_version_status.add(version=VERSION + 1, state=20)
        return reply


def _with_typed_values(array: Any, sent: Any) -> Any:
    """Write an array as TensorFlow Serving's replies do: every value in the dtype's own field."""
    # make_tensor_proto fills typed fields only for lists and for single values, so values are appended by field here.
    proto = type(sent)(dtype=sent.dtype, tensor_shape=sent.tensor_shape)
    dtype = tf.as_dtype(sent.dtype)
    flat = array.ravel()
    if dtype in (tf.float16, tf.bfloat16):
        proto.half_val.extend(flat.view("uint16").tolist())
    elif dtype == tf.complex64:
        proto.scomplex_val.extend(flat.view("float32").tolist())
    elif dtype == tf.complex128:
        proto.dcomplex_val.extend(flat.view("float64").tolist())
    else:
        getattr(proto, _FIELDS[dtype.name]).extend(flat.tolist())
    return proto


_FIELDS = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val"),
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
}


def add_servicers(server: grpc.Server) -> None:
    """Register both services."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)

"""gRPC, called with TensorFlow Serving's official stubs and messages."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.models import DTYPES
from tests.servers import RunningServer, running_server
from tests.serving.server.in_process import predict, serving
from tfbundle_serving.server.grpc_status import cut
from tfbundle_serving.server.listening import PortUnavailableError


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel that takes large messages, as clients of TensorFlow Serving must."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc_target, options=options) as opened:
        yield opened


@pytest.fixture
def predictions(channel: grpc.Channel) -> Any:
    """The official PredictionService stub."""
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def models(channel: grpc.Channel) -> Any:
    """The official ModelService stub."""
    return model_service_pb2_grpc.ModelServiceStub(channel)


def floats(*values: float) -> NDArray[np.float32]:
    """Make a float32 vector."""
    return np.array(values, np.float32)


def predict_request(name: str, signature: str = "", **inputs: Any) -> Any:
    """Make a PredictRequest with TensorFlow's own tensors."""
    request: Any = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_predict(predictions: Any) -> None:
    """Values in typed fields, and the spec of who answered."""
    reply = predictions.Predict(predict_request("half_plus_two", x=floats(1, 2)), timeout=10)
    assert list(reply.outputs["y"].float_val) == [2.5, 3.0]
    assert reply.outputs["y"].tensor_content == b""
    assert reply.model_spec.name == "half_plus_two"
    assert reply.model_spec.version.value == 123
    assert reply.model_spec.signature_name == "serving_default"
    assert reply.model_spec.WhichOneof("version_choice") == "version"


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(predictions: Any, name: str) -> None:
    """TensorFlow's own encoder and decoder agree with what the server sends back."""
    value = [[b"a\x00", b"\xff"]] if name == "string" else [[0, 1]]
    given = tf.constant(value, tf.string) if name == "string" else tf.cast(value, name)
    request = predict_request("identities", name)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(given.numpy(), dtype=given.dtype, shape=given.shape))
    returned = tf.make_ndarray(predictions.Predict(request, timeout=10).outputs["y"])
    assert np.array_equal(returned, given.numpy())


def test_output_filter(predictions: Any) -> None:
    """Only what is asked for comes back."""
    request = predict_request("two_inputs", a=np.ones((1, 3), np.float32), b=np.ones((1, 3), np.float32))
    request.output_filter.append("sum")
    assert set(predictions.Predict(request, timeout=10).outputs) == {"sum"}


def test_a_large_message_both_ways(predictions: Any) -> None:
    """Tens of megabytes pass, and come back equal."""
    given = np.random.default_rng(0).normal(size=(3_000_000, 2)).astype(np.float32)
    reply = predictions.Predict(predict_request("identities", "float32", x=given), timeout=60)
    assert np.array_equal(tf.make_ndarray(reply.outputs["y"]), given)


def _bad_tensor(name: str = "half_plus_two", signature: str = "", alias: str = "x") -> Any:
    request = predict_request(name, signature, **{alias: floats(1, 2)})
    request.inputs[alias].tensor_content = b"abc"
    return request


def _filtered(*aliases: str) -> Any:
    request = predict_request("half_plus_two", x=floats(1))
    request.output_filter.extend(aliases)
    return request


def _labelled(label: str) -> Any:
    request = predict_request("half_plus_two", x=floats(1))
    request.model_spec.version_label = label
    return request


def _numbered(version: int) -> Any:
    request = predict_request("half_plus_two", x=floats(1))
    request.model_spec.version.value = version
    return request


REFUSED = {
    "no model_spec": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no name": (predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": (predict_request("nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    "unknown version": (
        _numbered(9),
        "NOT_FOUND",
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "unknown label": (_labelled("nope"), "INVALID_ARGUMENT", "Unrecognized servable version label: nope"),
    "unknown signature": (
        predict_request("half_plus_two", "nope", x=floats(1)),
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "no inputs": (
        predict_request("half_plus_two"),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "wrong input": (
        predict_request("half_plus_two", z=floats(1)),
        "INVALID_ARGUMENT",
        (
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {z}, or default input alias set: "
        ),
    ),
    "unknown output": (
        _filtered("z"),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "output twice": (_filtered("y", "y"), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    "wrong dtype": (
        predict_request("half_plus_two", x=np.array([1.0])),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
    "bad tensor": (_bad_tensor(), "INVALID_ARGUMENT", "tensor parsing error: x"),
    # What is wrong besides is found before tensors are read.
    "bad tensor, unknown model": (_bad_tensor("nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    "bad tensor, unknown signature": (
        _bad_tensor(signature="nope"),
        "FAILED_PRECONDITION",
        'Serving signature key "nope" not found.',
    ),
    "bad tensor, wrong input": (
        _bad_tensor(alias="z"),
        "INVALID_ARGUMENT",
        (
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {z}, or default input alias set: "
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(predictions: Any, case: str) -> None:
    """Code and text are TensorFlow Serving's."""
    request, code, text = REFUSED[case]
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(request, timeout=10)
    assert caught.value.code().name == code
    assert caught.value.details() == text


def test_bytes_that_are_no_message(channel: grpc.Channel) -> None:
    """They are refused as by any C++ server, and the next request is answered."""
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    request = predict_request("half_plus_two", x=floats(1))
    assert call(request.SerializeToString(), timeout=10)


def test_long_messages_are_cut() -> None:
    """1,024 bytes of a message travel, whole characters of them, and it is said that there was more."""
    assert cut("x" * 1024) == "x" * 1024
    assert cut("x" * 1025) == "x" * 1024 + "...TRUNCATED"
    assert cut("é" * 600) == "é" * 512 + "...TRUNCATED"
    assert cut("x" + "é" * 600) == "x" + "é" * 511 + "...TRUNCATED"


def test_metadata(predictions: Any) -> None:
    """The official message unpacks to the SavedModel's own signatures."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "two_inputs"
    reply = predictions.GetModelMetadata(request, timeout=10)
    assert (reply.model_spec.name, reply.model_spec.version.value) == ("two_inputs", 1)
    unpacked = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(unpacked)
    assert set(unpacked.signature_def) == {"serving_default", "only_sum", "__saved_model_init_op"}
    a = unpacked.signature_def["serving_default"].inputs["a"]
    assert [dim.size for dim in a.tensor_shape.dim] == [-1, 3]
    assert a.dtype == tf.float32.as_datatype_enum


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("two_inputs", [], "GetModelMetadataRequest must specify at least one metadata_field"),
        ("two_inputs", ["x"], "Metadata field x is not supported"),
        ("", [], "GetModelMetadataRequest must specify at least one metadata_field"),
        ("", ["signature_def"], "ModelSpec has no name specified."),
        (None, [], "Missing ModelSpec"),
    ],
)
def test_metadata_refused(predictions: Any, name: str | None, fields: list[str], text: str) -> None:
    """Which metadata must be said, and there is only one kind; the model is looked for last."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
        request.model_spec.SetInParent()
    with pytest.raises(grpc.RpcError) as caught:
        predictions.GetModelMetadata(request, timeout=10)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, text)


def test_status(models: Any) -> None:
    """State and version of what is served; an unknown model and version have their texts."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    (status,) = models.GetModelStatus(request, timeout=10).model_version_status
    assert (status.version, status.state, status.status.error_code) == (123, status.AVAILABLE, 0)
    request.model_spec.version.value = 5
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModelStatus(request, timeout=10)
    assert caught.value.details() == "Could not find version 5 of model half_plus_two"
    request.model_spec.name = "nope"
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModelStatus(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "Could not find any versions of model nope"


def test_methods_that_are_not_served(channel: grpc.Channel) -> None:
    """They are unimplemented, not a broken connection."""
    stream = channel.unary_unary("/tensorflow.serving.PredictionService/PredictStreamed")
    with pytest.raises(grpc.RpcError) as caught:
        stream(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_the_run(predictions: Any) -> None:
    """A client that gives up gets DEADLINE_EXCEEDED, and others are answered meanwhile."""
    with pytest.raises(grpc.RpcError) as caught:
        predictions.Predict(predict_request("slow", x=floats(1)), timeout=0.01)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert predictions.Predict(predict_request("half_plus_two", x=floats(1)), timeout=10)


def test_many_at_once_get_their_own_answers(predictions: Any) -> None:
    """64 requests in flight are not mixed up, slow ones among them hold nobody up."""
    done = threading.Event()

    def slow() -> None:
        while not done.is_set():
            predictions.Predict(predict_request("slow", x=floats(1)), timeout=60)

    def quick(number: int) -> bool:
        reply = predictions.Predict(predict_request("half_plus_two", x=floats(number)), timeout=60)
        return bool(reply.outputs["y"].float_val[0] == number / 2 + 2)

    with ThreadPoolExecutor(66) as pool:
        slow_ones = [pool.submit(slow) for _ in range(2)]
        assert all(pool.map(quick, range(1000)))
        done.set()
        for each in slow_ones:
            each.result()


def test_tensor_content_and_socket(tiny_models: Path, tmp_path: Path) -> None:
    """With its flag the server sends tensor_content; with another it also listens on a UNIX socket."""
    path = tmp_path / "grpc.sock"
    base = tiny_models / "half_plus_two"
    flags = (f"--grpc_socket_path={path}", "--enable_serialization_as_tensor_content", "--model_name=m")
    with running_server(f"--model_base_path={base}", *flags), grpc.insecure_channel(f"unix:{path}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(predict_request("m", x=floats(1, 2)), timeout=10)
        assert reply.outputs["y"].tensor_content == floats(2.5, 3.0).tobytes()


def test_a_socket_that_was_left_behind(tiny_models: Path, tmp_path: Path) -> None:
    """What an ended server left at the path is replaced; anything else there is not touched, and named."""
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with (
        serving(tiny_models, grpc_socket_path=str(path), grpc_port=None) as server,
        grpc.insecure_channel(f"unix:{path}") as channel,
    ):
        assert server.grpc_port == 0
        assert predict(channel) == [3.0]
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(PortUnavailableError, match=r"grpc\.sock.*--grpc_socket_path"):
        serving(tiny_models, grpc_socket_path=str(path)).__enter__()
    assert path.read_text() == "mine"

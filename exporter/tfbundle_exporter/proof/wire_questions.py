"""Status and Predict over both transports, to a server on this machine; no client of ours is at work."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ApiError, BundleError, GateError
from tfbundle_serving.apis.json_reply import read_error, read_outputs
from tfbundle_serving.apis.json_request import write_inputs
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import (
    VersionStatus,
    decode_status_response,
    encode_status_request,
    status_from_json,
)
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_response, encode_predict_request
from tfbundle_serving.apis.signatures import Signature

Arrays = Mapping[str, NDArray[Any]]
#: A reference batch of images as JSON takes a server a while.
_TIMEOUT_S = 120.0
_HOST = "127.0.0.1"


class NotListeningError(GateError):
    """Nobody answers at the port yet."""


class NoWireFormError(GateError):
    """The transport cannot carry these inputs at all."""


class Wire(Protocol):
    """One transport to one server."""

    def statuses(self, model_name: str) -> list[VersionStatus]:
        """Ask for the states of a model's versions.

        Raises:
            NotListeningError: Nobody answers.
            GateError: The server refuses.
        """
        ...

    def predict(self, spec: ModelSpec, signature: Signature, inputs: Arrays) -> Arrays:
        """Ask for the answer to a batch.

        Raises:
            NoWireFormError: The transport cannot carry the inputs.
            GateError: The server refuses, or its answer cannot be read.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class GrpcWire:
    """gRPC, with messages that our own codec writes and reads.

    Args:
        port: Where the server listens.
    """

    name = "grpc"

    def __init__(self, port: int) -> None:
        import grpc

        self._grpc = grpc
        # No proxy of the environment's stands between two processes of one machine.
        options = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")] + [
            ("grpc.enable_http_proxy", 0)
        ]
        self._channel = grpc.insecure_channel(f"{_HOST}:{port}", options=options)

    def statuses(self, model_name: str) -> list[VersionStatus]:
        """Call GetModelStatus."""
        reply = self._call("ModelService/GetModelStatus", encode_status_request(ModelSpec(model_name)))
        return decode_status_response(reply)

    def predict(self, spec: ModelSpec, signature: Signature, inputs: Arrays) -> Arrays:  # noqa: ARG002  # REST needs it
        """Call Predict."""
        reply = self._call("PredictionService/Predict", encode_predict_request(PredictRequest(spec, inputs)))
        return _read(lambda: decode_predict_response(reply).outputs)

    def _call(self, method: str, request: bytes) -> bytes:
        call = self._channel.unary_unary(f"/tensorflow.serving.{method}")
        try:
            reply: bytes = call(request, timeout=_TIMEOUT_S)
        except self._grpc.RpcError as error:
            kind = NotListeningError if error.code() is self._grpc.StatusCode.UNAVAILABLE else GateError
            raise kind(f"{error.code().name}: {error.details()}") from error
        return reply

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class RestWire:
    """The REST API, columns in and out.

    Args:
        port: Where the server listens.
    """

    name = "rest"

    def __init__(self, port: int) -> None:
        self._port = port

    def statuses(self, model_name: str) -> list[VersionStatus]:
        """GET the model's status."""
        return status_from_json(json.loads(self._call("GET", f"/v1/models/{quote(model_name, safe='')}", b"")))

    def predict(self, spec: ModelSpec, signature: Signature, inputs: Arrays) -> Arrays:
        """POST a predict body."""
        try:
            body = write_inputs(inputs, signature, signature_name=spec.signature)
        except ApiError as error:
            raise NoWireFormError(error.message) from error
        path = f"/v1/models/{quote(spec.name, safe='')}/versions/{spec.version}:predict"
        reply = self._call("POST", path, body)
        return _read(lambda: read_outputs(reply, signature))

    def _call(self, verb: str, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request(verb, path, body or None, {"Content-Type": "application/json"} if body else {})
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotListeningError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise GateError(f"HTTP {reply.status}: {read_error(content, reply.reason)}")
        return content

    def close(self) -> None:
        """Nothing is kept open."""


def _read(decode: Callable[[], Arrays]) -> Arrays:
    try:
        return decode()
    except BundleError as error:
        raise GateError(f"the reply cannot be read: {error}") from error

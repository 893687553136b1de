"""The gRPC services: bytes in, bytes out, with our own codec and no generated stubs.

grpc.aio was chosen over grpc's thread pool. Measured on two cores with a small dense model, one row a request, 64 in
flight, the load generator on the same cores, requests a second: thread pool 2,150 to 2,700, asyncio with a hop to a
worker thread 2,500 to 2,900, asyncio that joins requests 3,100 to 3,400.

Source: tensorflow_serving/model_servers/prediction_service_impl.cc, model_service_impl.cc, grpc_status_util.cc.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import grpc
from numpy.typing import NDArray

from tfbundle_serving.apis.classification import encode_classification_response
from tfbundle_serving.apis.errors import ApiError, DecodeError, Internal, ResourceExhausted
from tfbundle_serving.apis.input_proto import ExamplesRequest, decode_examples_request
from tfbundle_serving.apis.model_metadata import decode_metadata_request, encode_metadata_response
from tfbundle_serving.apis.model_status import decode_status_request, encode_status_response
from tfbundle_serving.apis.multi_inference import decode_multi_inference_request, encode_multi_inference_response
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_request, encode_predict_response
from tfbundle_serving.apis.regression import encode_regression_response
from tfbundle_serving.apis.reload_config import (
    ReloadReply,
    ReloadRequest,
    decode_reload_request,
    encode_reload_reply,
)

from .dataplane import DataPlane
from .flags import MAX_REQUEST_BYTES

log = logging.getLogger(__name__)

#: grpc_status_util.cc cuts messages, since they travel in HTTP/2 headers, which are bounded.
MAX_MESSAGE_BYTES = 1024
_CUT = b"...TRUNCATED"

#: Messages of more bytes than this are read and written on a worker thread; below it the way there costs more.
_ASIDE_BYTES = 1 << 18
#: The same for messages of examples, which are read and written one by one.
_EXAMPLES_ASIDE_BYTES = 1 << 14

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

Handler = Callable[[bytes, Any], Awaitable[bytes]]
#: Serves another list of models (`reload.Reloader.reload`).
Reload = Callable[[ReloadRequest], Awaitable[ReloadReply]]
T = TypeVar("T")


def server_options(
    extra: tuple[tuple[str, str | int], ...] = (), *, max_bytes: int = MAX_REQUEST_BYTES
) -> list[tuple[str, str | int]]:
    """Give the options of the gRPC server; `extra` ones win."""
    options: dict[str, str | int] = {
        "grpc.max_receive_message_length": max_bytes,
        "grpc.max_send_message_length": -1,
        # Otherwise a second server on the same port takes half of the requests, and nobody is told.
        "grpc.so_reuseport": 0,
    }
    return list((options | dict(extra)).items())


class GrpcApi:
    """Translates between gRPC and the data plane.

    Args:
        plane: Answers.
        typed_replies: Whether outputs are typed fields, as TensorFlow Serving sends them, or tensor_content.
        max_bytes: Bytes that a request may have.
        reload: Serves another list of models; None means that the list cannot change.
    """

    def __init__(
        self,
        plane: DataPlane,
        *,
        typed_replies: bool = True,
        max_bytes: int = MAX_REQUEST_BYTES,
        reload: Reload | None = None,
    ) -> None:
        self._plane = plane
        self._reload = reload
        self._typed = typed_replies
        self._max_bytes = max_bytes

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Give the services; methods that they lack are answered with UNIMPLEMENTED by gRPC."""
        services: dict[str, dict[str, Handler]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": self._predict,
                "Classify": partial(
                    self._on_examples, "Classify", self._plane.classify, encode_classification_response
                ),
                "Regress": partial(self._on_examples, "Regress", self._plane.regress, encode_regression_response),
                "MultiInference": self._multi_inference,
                "GetModelMetadata": self._get_model_metadata,
            },
            "tensorflow.serving.ModelService": {
                "GetModelStatus": self._get_model_status,
                **({"HandleReloadConfigRequest": self._reload_config} if self._reload else {}),
            },
        }
        return tuple(
            grpc.method_handlers_generic_handler(
                name,
                {
                    method: grpc.unary_unary_rpc_method_handler(guarded(call, max_bytes=self._max_bytes))
                    for method, call in calls.items()
                },
            )
            for name, calls in services.items()
        )

    async def _predict(self, body: bytes, context: Any) -> bytes:
        begun = time.perf_counter()
        request = None
        status = "UNKNOWN"
        try:
            request = await self._read(body)
            response = await self._plane.predict(request, context.time_remaining())
            size = sum(_size(array) for array in response.outputs.values())
            if size > _ASIDE_BYTES:
                reply = await self._plane.aside(encode_predict_response, response, typed=self._typed)
            else:
                reply = encode_predict_response(response, typed=self._typed)
            status = "OK"
        except ApiError as error:
            status = error.status_name
            raise
        finally:
            model = self._plane.known_name(request.model_spec.name) if request and request.model_spec else ""
            self._plane.metrics.requests.add(model, status)
        took_us = (time.perf_counter() - begun) * 1e6
        self._plane.metrics.request_latency.observe(took_us, model, "Predict", "GRPC")
        return reply

    async def _read(self, body: bytes) -> PredictRequest:
        if len(body) > _ASIDE_BYTES:
            return await self._plane.aside(decode_predict_request, body)
        return decode_predict_request(body)

    async def _on_examples(
        self,
        name: str,
        call: Callable[[ExamplesRequest, float | None], Awaitable[T]],
        encode: Callable[[T], bytes],
        body: bytes,
        context: Any,
    ) -> bytes:
        """Answer Classify or Regress; a message of theirs takes many times as long as a tensor of its size."""
        begun = time.perf_counter()
        model, status = "", "UNKNOWN"
        try:
            is_large = len(body) > _EXAMPLES_ASIDE_BYTES
            decode = decode_examples_request
            request = await self._plane.aside(decode, body) if is_large else decode(body)
            model = self._plane.known_name(request.model_spec.name) if request.model_spec else ""
            response = await call(request, context.time_remaining())
            # What has many examples has many results.
            reply = await self._plane.aside(encode, response) if is_large else encode(response)
            status = "OK"
        except ApiError as error:
            status = error.status_name
            raise
        finally:
            self._plane.metrics.requests.add(model, status)
        self._plane.metrics.request_latency.observe((time.perf_counter() - begun) * 1e6, model, name, "GRPC")
        return reply

    async def _multi_inference(self, body: bytes, context: Any) -> bytes:
        if len(body) <= _EXAMPLES_ASIDE_BYTES:
            request = decode_multi_inference_request(body)
            return encode_multi_inference_response(await self._plane.multi_inference(request, context.time_remaining()))
        request = await self._plane.aside(decode_multi_inference_request, body)
        results = await self._plane.multi_inference(request, context.time_remaining())
        return await self._plane.aside(encode_multi_inference_response, results)

    async def _get_model_metadata(self, body: bytes, _: Any) -> bytes:
        return encode_metadata_response(self._plane.metadata(decode_metadata_request(body)))

    async def _get_model_status(self, body: bytes, _: Any) -> bytes:
        return encode_status_response(self._plane.status(decode_status_request(body)))

    async def _reload_config(self, body: bytes, _: Any) -> bytes:
        assert self._reload is not None
        return encode_reload_reply(await self._reload(decode_reload_request(body)))


def _size(array: NDArray[Any]) -> int:
    # Strings are pointers to numpy; what they point at is as a rule longer.
    return array.nbytes * (8 if array.dtype == object else 1)


def guarded(call: Handler, *, max_bytes: int = MAX_REQUEST_BYTES) -> Handler:
    """Send what a call raises as a gRPC status."""

    async def answer(body: bytes, context: Any) -> bytes:
        try:
            if len(body) > max_bytes:  # gRPC measured it before it inflated it
                raise ResourceExhausted(f"Received message larger than max ({len(body)} vs. {max_bytes})")
            return await call(body, context)
        except Exception as error:
            await abort(context, error)
            raise AssertionError("abort always raises") from error

    return answer


async def abort(context: Any, error: Exception) -> None:
    """End a call with the status of an error; does not return.

    What is no protobuf message is INTERNAL, as in every C++ server (grpcpp/impl/proto_utils.h).
    """
    if isinstance(error, ApiError):
        failure = error
    elif isinstance(error, DecodeError):
        failure = Internal(f"the request is no such message: {error}")
    else:  # the outermost place: logged once, answered as our fault
        log.error("a gRPC request failed", exc_info=error)
        failure = Internal(f"{type(error).__name__}: {error}")
    await context.abort(_CODES[failure.code], cut(failure.message))


def cut(message: str) -> str:
    """Cut a message to what TensorFlow Serving sends at most."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return (encoded[:MAX_MESSAGE_BYTES] + _CUT).decode("utf-8", "ignore")

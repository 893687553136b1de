"""The gRPC services: bytes in, bytes out, with our own codec and no generated stubs.

Source: tensorflow_serving/model_servers/prediction_service_impl.cc, model_service_impl.cc.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from tfbundle_serving.apis.classification import encode_classification_response
from tfbundle_serving.apis.errors import ApiError
from tfbundle_serving.apis.input_proto import ExamplesRequest, decode_examples_request
from tfbundle_serving.apis.model_metadata import decode_metadata_request, encode_metadata_response
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import decode_status_request, encode_status_response
from tfbundle_serving.apis.multi_inference import decode_multi_inference_request, encode_multi_inference_response
from tfbundle_serving.apis.predict import (
    PredictRequest,
    UnreadableInputError,
    decode_predict_request,
    encode_predict_response,
)
from tfbundle_serving.apis.regression import encode_regression_response
from tfbundle_serving.apis.reload_config import (
    ReloadReply,
    ReloadRequest,
    decode_reload_request,
    encode_reload_reply,
)
from tfbundle_serving.apis.wire import Readable

from .dataplane import DataPlane
from .grpc_methods import Call, Handler, Method
from .grpc_weight import is_heavy_to_read, is_heavy_to_write

#: Messages of examples of more bytes than this are read and written on a worker thread, since that is one by one.
_EXAMPLES_ASIDE_BYTES = 1 << 14

#: Serves another list of models (`reload.Reloader.reload`).
Reload = Callable[[ReloadRequest], Awaitable[ReloadReply]]
T = TypeVar("T")


class GrpcApi:
    """Translates between gRPC and the data plane.

    Args:
        plane: Answers.
        typed_replies: Whether outputs are typed fields, as TensorFlow Serving sends them, or tensor_content.
        reload: Serves another list of models; None means that the list cannot change.
    """

    def __init__(
        self,
        plane: DataPlane,
        *,
        typed_replies: bool = True,
        reload: Reload | None = None,
    ) -> None:
        self._plane = plane
        self._reload = reload
        self._typed = typed_replies

    def methods(self) -> dict[str, Method]:
        """Give what is served, by path."""
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
        return {
            f"/{service}/{name}": Method(handler=handler)
            for service, handlers in services.items()
            for name, handler in handlers.items()
        }

    async def _predict(self, call: Call) -> bytes:
        begun = time.perf_counter()
        request = None
        status = "UNKNOWN"
        try:
            try:
                request = await self._read(call.message())
            except UnreadableInputError as error:
                request = error.request
                self._plane.check(request)
                raise
            response = await self._plane.predict(request, call.time_remaining())
            if is_heavy_to_write(list(response.outputs.values()), typed=self._typed):
                reply = await self._plane.aside(encode_predict_response, response, typed=self._typed)
            else:
                reply = encode_predict_response(response, typed=self._typed)
            status = "OK"
        except ApiError as error:
            status = error.status_name
            raise
        finally:
            model = self._name(request.model_spec if request else None)
            self._plane.metrics.requests.add(model, status)
        took_us = (time.perf_counter() - begun) * 1e6
        self._plane.metrics.request_latency.observe(took_us, model, "Predict", "GRPC")
        return reply

    def _name(self, spec: ModelSpec | None) -> str:
        return self._plane.counted_name(spec.name) if spec else ""

    async def _read(self, body: Readable) -> PredictRequest:
        if is_heavy_to_read(body):
            return await self._plane.aside(decode_predict_request, body)
        return decode_predict_request(body)

    async def _on_examples(
        self,
        name: str,
        ask: Callable[[ExamplesRequest, float | None], Awaitable[T]],
        encode: Callable[[T], bytes],
        call: Call,
    ) -> bytes:
        """Answer Classify or Regress; a message of theirs takes many times as long as a tensor of its size."""
        begun = time.perf_counter()
        model, status = "", "UNKNOWN"
        try:
            body = call.message()
            is_large = len(body) > _EXAMPLES_ASIDE_BYTES
            decode = decode_examples_request
            request = await self._plane.aside(decode, body) if is_large else decode(body)
            model = self._name(request.model_spec)
            response = await ask(request, call.time_remaining())
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

    async def _multi_inference(self, call: Call) -> bytes:
        body = call.message()
        if len(body) <= _EXAMPLES_ASIDE_BYTES:
            request = decode_multi_inference_request(body)
            return encode_multi_inference_response(await self._plane.multi_inference(request, call.time_remaining()))
        request = await self._plane.aside(decode_multi_inference_request, body)
        results = await self._plane.multi_inference(request, call.time_remaining())
        return await self._plane.aside(encode_multi_inference_response, results)

    async def _get_model_metadata(self, call: Call) -> bytes:
        return encode_metadata_response(self._plane.metadata(decode_metadata_request(call.message())))

    async def _get_model_status(self, call: Call) -> bytes:
        return encode_status_response(self._plane.status(decode_status_request(call.message())))

    async def _reload_config(self, call: Call) -> bytes:
        assert self._reload is not None
        return encode_reload_reply(await self._reload(decode_reload_request(call.message())))

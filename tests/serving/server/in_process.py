"""A server inside the test's own process, which starts in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_response, encode_predict_request
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import ServerSettings

PREDICT = "/tensorflow.serving.PredictionService/Predict"
#: Asks half_plus_two for x = 2.
REQUEST = encode_predict_request(PredictRequest(ModelSpec("half_plus_two"), {"x": np.array([2.0], np.float32)}, []))


@contextmanager
def serving(tiny_models: Path, **settings: Any) -> Iterator[Server]:
    """Serve half_plus_two for the length of a block."""
    model = ModelConfig(name="half_plus_two", base_path=str(tiny_models / "half_plus_two"))
    server = Server(ServerSettings(**{"models": (model,), **settings}))
    server.start()
    try:
        yield server
    finally:
        server.stop(5.0)


def channel_to(server: Server) -> grpc.Channel:
    """Open a channel; it is closed at the end of a `with` block."""
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")


def predict(channel: grpc.Channel, request: bytes = REQUEST, **options: Any) -> list[float]:
    """Send a request, by default the one that is answered with [3.0]."""
    reply = channel.unary_unary(PREDICT)(request, timeout=30, **options)
    answer: list[float] = decode_predict_response(reply).outputs["y"].tolist()
    return answer


def refusal(channel: grpc.Channel, request: bytes = REQUEST, method: str = PREDICT, **options: Any) -> tuple[str, str]:
    """Send a request that is refused, and give code and text."""
    try:
        channel.unary_unary(method)(request, timeout=30, **options)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("the request was answered")

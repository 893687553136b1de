"""grpc.health.v1.Health: what load balancers and Kubernetes ask over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from tfbundle_serving.apis.errors import DecodeError, NotFound
from tfbundle_serving.apis.health import ServingStatus, decode_health_request, encode_health_response

from .grpc_api import abort, guarded
from .health import Health

SERVICE = "grpc.health.v1.Health"


class HealthService:
    """Translates between gRPC and the truth.

    Args:
        health: The truth.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def handlers(self) -> grpc.GenericRpcHandler:
        """Give the service."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(guarded(self._check)),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
            },
        )

    async def _check(self, body: bytes, _: Any) -> bytes:
        service = decode_health_request(body)
        status = self._health.of(service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            raise NotFound(f"there is no service or model {service!r}")
        return encode_health_response(status)

    async def _watch(self, body: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            service = decode_health_request(body)
        except DecodeError as error:
            await abort(context, error)
            raise AssertionError("abort always raises") from error
        async for status in self._health.watch(service):
            yield encode_health_response(status)

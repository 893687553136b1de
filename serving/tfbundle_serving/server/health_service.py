"""grpc.health.v1.Health: what load balancers and Kubernetes ask over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.health import (
    ServingStatus,
    decode_health_request,
    encode_health_list,
    encode_health_response,
)

from .grpc_methods import Call, Method
from .health import Health

SERVICE = "grpc.health.v1.Health"
#: Names what is served, which a check does not.
LIST = f"/{SERVICE}/List"


class HealthService:
    """Translates between gRPC and the truth.

    Args:
        health: The truth.
    """

    def __init__(self, health: Health) -> None:
        self._health = health

    def methods(self) -> dict[str, Method]:
        """Give what is served, by path."""
        return {f"/{SERVICE}/Check": Method(handler=self._check), f"/{SERVICE}/Watch": Method(streams=self._watch)}

    def listing(self) -> dict[str, Method]:
        """Give what names the models. It is there without the flag, too: nobody takes it for a health check, and who
        replaces the list of models has to see what is on it.
        """
        return {LIST: Method(handler=self._list)}

    async def _check(self, call: Call) -> bytes:
        service = decode_health_request(call.message())
        status = self._health.of(service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            raise NotFound(f"there is no service or model {service!r}")
        return encode_health_response(status)

    async def _list(self, _: Call) -> bytes:
        return encode_health_list({"": self._health.overall(), **self._health.models()})

    async def _watch(self, call: Call) -> AsyncIterator[bytes]:
        async for status in self._health.watch(decode_health_request(call.message())):
            yield encode_health_response(status)

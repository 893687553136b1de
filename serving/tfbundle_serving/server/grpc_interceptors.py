"""What stands before the gRPC services where a flag asks for it: the access log and the API keys."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from . import access_log
from .access_log import Access, AccessLog
from .api_key import REFUSAL, ApiKeys
from .health_service import SERVICE as HEALTH

_Handler = Any
_Continue = Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]]


class KeyInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Refuses who has no key. Health checks need none: those who ask for health cannot be told secrets.

    Args:
        keys: The keys that are accepted.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    async def intercept_service(self, continuation: _Continue, handler_call_details: Any) -> _Handler:
        """Find the handler of a call."""
        details = handler_call_details
        if details.method.startswith(f"/{HEALTH}/") or self._keys.allow(details.invocation_metadata):
            return await continuation(details)
        # Reads nothing of the request, however large it is.
        return grpc.stream_unary_rpc_method_handler(_refuse)


async def _refuse(_: AsyncIterator[bytes], context: Any) -> bytes:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSAL)
    raise AssertionError("abort always raises")


class LogInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """Takes every call down that has one answer.

    Args:
        log: Where to.
    """

    def __init__(self, log: AccessLog) -> None:
        self._log = log

    async def intercept_service(self, continuation: _Continue, handler_call_details: Any) -> _Handler:
        """Find the handler of a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.response_streaming:
            return handler
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._logged(method, handler.stream_unary))
        return grpc.unary_unary_rpc_method_handler(self._logged(method, handler.unary_unary))

    def _logged(self, method: str, call: Callable[[Any, Any], Awaitable[bytes]]) -> Any:
        async def logged(request: Any, context: Any) -> bytes:
            begun = time.perf_counter()
            subject = access_log.begin()
            reply = b""
            code = "CANCELLED"
            try:
                reply = await call(request, context)
                code = "OK"
            except grpc.aio.AbortError:
                code = context.code().name
                raise
            finally:
                self._log.add(
                    Access(
                        protocol="grpc",
                        method=method,
                        subject=subject,
                        code=code,
                        seconds=time.perf_counter() - begun,
                        bytes_in=len(request) if isinstance(request, bytes) else 0,
                        bytes_out=len(reply),
                        peer=_peer(context.peer()),
                    )
                )
            return reply

        return logged


def _peer(name: str) -> str:
    """Give an address without gRPC's prefix: "ipv4:127.0.0.1:5" is "127.0.0.1:5"."""
    kind, _, address = name.partition(":")
    return unquote(address) if kind in ("ipv4", "ipv6") else name

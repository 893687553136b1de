"""OpenTelemetry spans for messages, where the package opentelemetry-api is installed.

Each message is a client span of its own, retries and look-ups of signatures included, named and described as the
conventions for RPC say, and the server is told of it by the propagators that are configured (traceparent as a rule).
Without a tracer provider spans are empty, and nothing is sent along.

Source: OpenTelemetry semantic conventions, "RPC client span".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import STATUS_NAMES, ApiError

from ..transports.address import Address
from ..transports.transport import Call
from .hooks import RPC_NAMES, Finish, do_nothing

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

#: Kind of transport to what the conventions call the system.
_SYSTEMS = {"gRPC": "grpc", "REST": "http"}


def find_tracing(transport: str, address: Address) -> Tracing | None:
    """Give the observer that makes spans; None where opentelemetry-api is not installed."""
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return Tracing(trace.get_tracer("tfbundle_client"), transport, address)


class Tracing:
    """An observer that wraps each message into a span.

    Args:
        tracer: Makes the spans.
        transport: The kind of transport.
        address: The server's address.
    """

    def __init__(self, tracer: Tracer, transport: str, address: Address) -> None:
        from opentelemetry.propagate import inject
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        self._tracer = tracer
        self._kind = SpanKind.CLIENT
        self._inject = inject
        self._in_context = set_span_in_context
        self._status, self._error = Status, StatusCode.ERROR
        self._attributes: dict[str, Any] = {
            "rpc.system.name": _SYSTEMS.get(transport, transport.lower()),
            "server.address": address.url,
        }
        host, colon, port = address.url.rpartition("//")[2].partition("/")[0].rpartition(":")
        if colon and port.isdecimal() and "," not in host:
            self._attributes |= {"server.address": host.strip("[]"), "server.port": int(port)}

    def begin(self, call: Call[Any], attempt: int) -> tuple[Call[Any], Finish]:
        """See a message before it is sent; see `hooks.Observer.begin`."""
        name = RPC_NAMES[type(call)]
        span = self._tracer.start_span(name, kind=self._kind)
        if not span.get_span_context().is_valid:
            return call, do_nothing
        if span.is_recording():
            span.set_attributes({**self._attributes, "rpc.method": name})
            if call.spec.name:
                span.set_attribute("tfbundle.model.name", call.spec.name)
            version = call.spec.label if call.spec.version is None else call.spec.version
            if version is not None:
                span.set_attribute("tfbundle.model.version", str(version))
            if attempt > 1:
                span.set_attribute("tfbundle.resend_count", attempt - 1)

        def finish(error: BaseException | None) -> None:
            if span.is_recording():
                status = STATUS_NAMES[error.code if isinstance(error, ApiError) else 2 if error else 0]
                span.set_attribute("rpc.response.status_code", status)
                if error is not None:
                    span.set_attribute("error.type", status if isinstance(error, ApiError) else type(error).__name__)
                    span.set_status(self._status(self._error, str(error)))
            span.end()

        carrier: dict[str, str] = {}
        self._inject(carrier, context=self._in_context(span))
        headers = tuple((key.lower(), value) for key, value in carrier.items())
        return replace(call, headers=(*call.headers, *headers)), finish

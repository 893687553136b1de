"""--grpc_channel_arguments: those that mean something here, and what it is.

Source: include/grpc/impl/channel_arg_names.h.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .flags import MAX_REQUEST_BYTES
from .http2.frames import DEFAULT_FRAME_BYTES, LARGEST, LARGEST_FRAME_BYTES
from .http2.service import ConnectionLimits

log = logging.getLogger(__name__)

Option = tuple[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """Bounds of the gRPC server.

    Attributes:
        max_request_bytes: Bytes that a request's message may have, inflated or not.
        max_reply_bytes: The same for a reply; None = any.
        idle_s: A connection without a call for so long is closed; None = never.
        age_s: A connection so old takes no further calls; None = none is.
        age_grace_s: How long its calls may then take; None = as long as they do.
        keepalive_s: A connection from which nothing came for so long is asked whether it is alive.
        keepalive_timeout_s: How long it may take to answer.
        connection: Bounds of each connection.
    """

    max_request_bytes: int = MAX_REQUEST_BYTES
    max_reply_bytes: int | None = None
    idle_s: float | None = None
    age_s: float | None = None
    age_grace_s: float | None = None
    keepalive_s: float | None = 7200.0
    keepalive_timeout_s: float = 20.0
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)


def _bytes(value: int) -> int | None:
    return None if value < 0 else value


def _seconds(value: int) -> float | None:
    """Read milliseconds, of which gRPC's C core takes the largest int for never."""
    return None if value < 0 or value >= LARGEST else value / 1e3


def _connection(**change: int) -> Callable[[GrpcLimits], GrpcLimits]:
    return lambda limits: replace(limits, connection=replace(limits.connection, **change))


#: Name to what a number changes.
_MEANINGS: dict[str, Callable[[GrpcLimits, int], GrpcLimits]] = {
    "grpc.max_receive_message_length": lambda limits, value: replace(
        limits, max_request_bytes=value if value >= 0 else MAX_REQUEST_BYTES
    ),
    "grpc.max_send_message_length": lambda limits, value: replace(limits, max_reply_bytes=_bytes(value)),
    "grpc.max_connection_idle_ms": lambda limits, value: replace(limits, idle_s=_seconds(value)),
    "grpc.max_connection_age_ms": lambda limits, value: replace(limits, age_s=_seconds(value)),
    "grpc.max_connection_age_grace_ms": lambda limits, value: replace(limits, age_grace_s=_seconds(value)),
    "grpc.keepalive_time_ms": lambda limits, value: replace(limits, keepalive_s=_seconds(value)),
    "grpc.keepalive_timeout_ms": lambda limits, value: replace(
        limits, keepalive_timeout_s=_seconds(value) or limits.keepalive_timeout_s
    ),
    # Of the socket, and looked at where that is bound.
    "grpc.so_reuseport": lambda limits, _: limits,
    "grpc.max_concurrent_streams": lambda limits, value: _connection(max_streams=max(value, 0))(limits),
    "grpc.max_metadata_size": lambda limits, value: _connection(max_header_bytes=max(value, 0))(limits),
    "grpc.absolute_max_metadata_size": lambda limits, value: _connection(max_header_bytes=max(value, 0))(limits),
    "grpc.http2.max_frame_size": lambda limits, value: _connection(
        max_frame_bytes=min(max(value, DEFAULT_FRAME_BYTES), LARGEST_FRAME_BYTES)
    )(limits),
}


def read_options(options: Iterable[Option], max_request_bytes: int = MAX_REQUEST_BYTES) -> GrpcLimits:
    """Turn channel arguments into bounds; what has no meaning here is accepted with one log line.

    Args:
        options: Names and values; the last of a name wins, and over the other bound.
        max_request_bytes: Bytes that a request's message may have where no option says so.
    """
    limits = GrpcLimits(max_request_bytes=max_request_bytes)
    for name, value in options:
        change = _MEANINGS.get(name)
        if change is None or not isinstance(value, int):
            log.info("--grpc_channel_arguments: %s=%s has no meaning here", name, value)
        else:
            limits = change(limits, value)
    return limits

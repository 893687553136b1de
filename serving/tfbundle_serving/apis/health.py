"""Health checks on the wire: may this server, or this model, be sent requests?

    HealthCheckRequest {1: service}    HealthCheckResponse {1: status}
    HealthListRequest {}               HealthListResponse {1: map service to HealthCheckResponse}

Source: grpc-proto, grpc/health/v1/health.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from .wire import (
    Readable,
    as_int,
    as_text,
    as_view,
    fields,
    length_field,
    read_map_entry,
    string_field,
    varint_field,
    view,
)


class ServingStatus(IntEnum):
    """What a health check answers."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    #: Sent by Watch alone; Check fails with NOT_FOUND instead.
    SERVICE_UNKNOWN = 3


def encode_health_request(service: str) -> bytes:
    """Write a HealthCheckRequest; "" asks for the server as a whole."""
    return string_field(1, service) if service else b""


def decode_health_request(data: Readable) -> str:
    """Read a HealthCheckRequest.

    Returns:
        The service asked for, "" for the server as a whole.

    Raises:
        DecodeError: The bytes are not such a request.
    """
    service = ""
    for number, _, value in fields(view(data)):
        if number == 1:
            service = as_text(value, "service")
    return service


def encode_health_response(status: ServingStatus) -> bytes:
    """Write a HealthCheckResponse."""
    return varint_field(1, status) if status else b""


def decode_health_response(data: Readable) -> ServingStatus:
    """Read a HealthCheckResponse; a status that is not known is UNKNOWN.

    Raises:
        DecodeError: The bytes are not such a response.
    """
    status = 0
    for number, _, value in fields(view(data)):
        if number == 1:
            status = as_int(value, "status")
    return ServingStatus(status) if status in ServingStatus._value2member_map_ else ServingStatus.UNKNOWN


def encode_health_list(statuses: Mapping[str, ServingStatus]) -> bytes:
    """Write a HealthListResponse: service to its status."""
    return b"".join(
        length_field(1, string_field(1, service) + length_field(2, encode_health_response(status)))
        for service, status in statuses.items()
    )


def decode_health_list(data: Readable) -> dict[str, ServingStatus]:
    """Read a HealthListResponse.

    Raises:
        DecodeError: The bytes are not such a response.
    """
    statuses = {}
    for number, _, value in fields(view(data)):
        if number == 1:
            service, status = read_map_entry(as_view(value, "statuses"), "statuses")
            statuses[service] = decode_health_response(status)
    return statuses

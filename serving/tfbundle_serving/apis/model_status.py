"""The state of each version of a model, on the wire and as JSON.

    {"model_version_status": [{"version": "2", "state": "AVAILABLE",
                               "status": {"error_code": "OK", "error_message": ""}}]}

Source: tensorflow_serving/apis/get_model_status.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .errors import STATUS_NAMES, DecodeError
from .model_spec import ModelSpec, decode_model_spec, encode_model_spec
from .wire import Readable, as_int, as_text, as_view, fields, length_field, string_field, varint_field, view


class State(IntEnum):
    """Where a version is in its life."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's state.

    Attributes:
        version: The number.
        state: Its state.
        error_code: gRPC code; other than 0 where loading failed.
        error_message: Why it failed, or "".
    """

    version: int
    state: State
    error_code: int = 0
    error_message: str = ""

    @property
    def is_available(self) -> bool:
        """Whether the version answers requests."""
        return self.state is State.AVAILABLE


def encode_status_request(spec: ModelSpec) -> bytes:
    """Write a GetModelStatusRequest."""
    return length_field(1, encode_model_spec(spec))


def decode_status_request(data: Readable) -> ModelSpec | None:
    """Read a GetModelStatusRequest; None where it has no model_spec.

    Raises:
        DecodeError: The bytes are not such a request.
    """
    spec = None
    for number, _, value in fields(view(data)):
        if number == 1:
            spec = decode_model_spec(as_view(value, "model_spec"))
    return spec


def encode_status_response(statuses: Iterable[VersionStatus]) -> bytes:
    """Write a GetModelStatusResponse."""
    return b"".join(length_field(1, _encode_version(status)) for status in statuses)


def _encode_version(status: VersionStatus) -> bytes:
    outcome = varint_field(1, status.error_code) if status.error_code else b""
    if status.error_message:
        outcome += string_field(2, status.error_message)
    out = varint_field(1, status.version) if status.version else b""
    return out + varint_field(2, status.state) + length_field(3, outcome)


def decode_status_response(data: Readable) -> list[VersionStatus]:
    """Read a GetModelStatusResponse.

    Raises:
        DecodeError: The bytes are not such a response.
    """
    return [_decode_version(as_view(value, "status")) for number, _, value in fields(view(data)) if number == 1]


def _decode_version(data: memoryview) -> VersionStatus:
    version = code = 0
    state = State.UNKNOWN
    message = ""
    for number, _, value in fields(data):
        if number == 1:
            version = as_int(value, "version")
        elif number == 2:
            state = _state(as_int(value, "state"))
        elif number == 3:
            for inner, _, content in fields(as_view(value, "status")):
                if inner == 1:
                    code = as_int(content, "error_code")
                elif inner == 2:
                    message = as_text(content, "error_message")
    return VersionStatus(version, state, code, message)


def _state(number: int) -> State:
    return State(number) if number in State._value2member_map_ else State.UNKNOWN


def status_to_json(statuses: Iterable[VersionStatus]) -> dict[str, Any]:
    """Give the REST body of a status request."""
    return {
        "model_version_status": [
            {
                "version": str(status.version),
                "state": status.state.name,
                "status": {
                    "error_code": STATUS_NAMES.get(status.error_code, str(status.error_code)),
                    "error_message": status.error_message,
                },
            }
            for status in statuses
        ]
    }


def status_from_json(body: Mapping[str, Any]) -> list[VersionStatus]:
    """Read the REST body of a status request.

    Raises:
        DecodeError: It is not one.
    """
    codes = {name: code for code, name in STATUS_NAMES.items()}
    try:
        return [
            VersionStatus(
                int(entry["version"]),
                State[entry["state"]],
                codes.get(entry["status"]["error_code"], 2),
                str(entry["status"]["error_message"]),
            )
            for entry in body["model_version_status"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"not a model status: {body!s:.200}") from error

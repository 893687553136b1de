"""What messages have in common over both protocols: times, sizes, and the errors of a call without a good reply."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tfbundle_serving.apis.errors import (
    ApiError,
    ConnectionFailed,
    DeadlineExceeded,
    DecodeError,
    Unimplemented,
)
from tfbundle_serving.apis.model_spec import ModelSpec

from .address import Endpoint
from .hints import hint_of
from .transport import Call

Kind = TypeVar("Kind", bound=ApiError)

#: How OpenSSL says that a server's certificate is not to be trusted, or that a port has no TLS; neither will be other a
#: moment later.
_LASTING = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")


def write(build: Callable[[Any], bytes], call: Call[Any]) -> bytes:
    """Write a call's request body, and note what it cost where the call asks for it."""
    transfer = call.transfer
    if transfer is None:
        return build(call)
    started_s = time.perf_counter()
    body = build(call)
    transfer.encode_s = time.perf_counter() - started_s
    transfer.request_bytes = len(body)
    return body


def read(parse: Callable[[bytes, Any], Any], body: bytes, call: Call[Any], endpoint: Endpoint) -> Any:
    """Read a reply's body, and note what it cost where the call asks for it.

    Raises:
        DecodeError: It is not a reply to such a call; the message names the model and who answered.
    """
    transfer = call.transfer
    started_s = 0.0 if transfer is None else time.perf_counter()
    try:
        reply = parse(body, call)
    except DecodeError as error:
        raise DecodeError(f"{name(call)}: the answer of {endpoint} cannot be read: {error}") from error
    if transfer is not None:
        transfer.decode_s = time.perf_counter() - started_s
        transfer.response_bytes = len(body)
    return reply


def name(call: Call[Any]) -> str:
    """Name what a call asks about, in a message."""
    return str(call.spec) if call.spec.name else type(call).__name__.removesuffix("Call").lower()


def version(spec: ModelSpec) -> int | str | None:
    """Give the version or label that was asked for."""
    return spec.version if spec.version is not None else spec.label


def failure(kind: type[Kind], message: str, call: Call[Any]) -> Kind:
    """Make an error that carries what was asked for."""
    spec = call.spec
    return kind(message, model=spec.name or None, version=version(spec))


def late(call: Call[Any], endpoint: Endpoint) -> DeadlineExceeded:
    """Make the error of a call whose time ran out on our side."""
    return failure(
        DeadlineExceeded, f"{name(call)}: no answer from {endpoint} within {call.deadline.timeout_s:g} s", call
    )


def no_connection(reason: str, call: Call[Any], endpoint: Endpoint) -> ConnectionFailed:
    """Make the error of a server that is not there, or of a connection that broke."""
    error = failure(ConnectionFailed, f"no connection to {endpoint}: {reason}{hint_of(endpoint.url, reason)}", call)
    if any(each in reason for each in _LASTING):
        error.may_succeed_later = False
    return error


def not_over(transport: str, what: str, call: Call[Any]) -> Unimplemented:
    """Make the error of a call for which a protocol has no message."""
    error = failure(Unimplemented, f"{what} does not travel over {transport}; use a grpc:// address", call)
    error.attempts = 0
    return error

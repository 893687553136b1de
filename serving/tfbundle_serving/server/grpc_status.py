"""How a call ends over gRPC: with trailers that say a status.

Source: grpc's PROTOCOL-HTTP2.md; tensorflow_serving/model_servers/grpc_status_util.cc.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from tfbundle_serving.apis.errors import ApiError, DecodeError, Internal

from .http2.header_blocks import Header, encode_headers

#: grpc_status_util.cc cuts messages, since they travel in HTTP/2 headers, which are bounded.
MAX_MESSAGE_BYTES = 1024
_CUT = b"...TRUNCATED"

#: What a grpc-message carries as it is: printable ASCII but the percent sign.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

_HEADERS: tuple[Header, ...] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
#: Before the first message of an answer.
OPENING = encode_headers(_HEADERS)
#: Behind the last one.
OK = encode_headers([(b"grpc-status", b"0")])


def as_api_error(error: Exception) -> ApiError:
    """Say which status an error is.

    What is no protobuf message is INTERNAL, as in every C++ server (grpcpp/impl/proto_utils.h).
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DecodeError):
        return Internal(f"the request is no such message: {error}")
    return Internal(f"{type(error).__name__}: {error}")


def failed(error: ApiError) -> bytes:
    """Write the trailers of a call that failed behind a message."""
    return encode_headers(_status(error))


def refused(error: ApiError) -> bytes:
    """Write headers and trailers in one, for a call that failed before its first message."""
    return encode_headers([*_HEADERS, *_status(error)])


def _status(error: ApiError) -> list[Header]:
    message = quote_from_bytes(cut(error.message).encode(), safe=_PLAIN).encode()
    return [(b"grpc-status", str(error.code).encode()), *([(b"grpc-message", message)] if message else [])]


def cut(message: str) -> str:
    """Cut a message to what TensorFlow Serving sends at most."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return (encoded[:MAX_MESSAGE_BYTES] + _CUT).decode("utf-8", "ignore")

"""What the headers of a gRPC call say.

Source: grpc's PROTOCOL-HTTP2.md ("Requests"); RFC 9113, section 8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tfbundle_serving.apis.errors import ApiError, ResourceExhausted, Unimplemented

from .grpc_messages import IDENTITY, WINDOW_BITS
from .grpc_methods import Asked, Find, Method, refusing
from .http2.header_blocks import Header, encode_headers

#: Unit of a grpc-timeout to seconds.
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")

#: Of a connection, not of a request; HTTP/2 forbids them.
_FOREIGN = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_NAME = re.compile(rb"[^\x00-\x20A-Z:\x7f-\xff]+")
_VALUE_ENDS = re.compile(rb"[\x00\r\n]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a call's headers say.

    Attributes:
        method: Answers it.
        timeout_s: Seconds that the client waits; None means for ever.
        encoding: What compresses its messages; None means nothing.
        error: Why it is refused before its message is read.
        refusal: Headers that refuse it below gRPC's level.
        is_malformed: Whether they are no headers of a request.
    """

    method: Method
    timeout_s: float | None = None
    encoding: bytes | None = None
    error: ApiError | None = None
    refusal: bytes | None = None
    is_malformed: bool = False


_NOTHING = refusing(Unimplemented(""))
_MALFORMED = Head(method=_NOTHING, is_malformed=True)
#: grpc's protocol asks for 415 where the content is no gRPC; only POST is a call.
_NO_GRPC = Head(method=_NOTHING, refusal=encode_headers([(b":status", b"415")]))
_NO_POST = Head(method=_NOTHING, refusal=encode_headers([(b":status", b"405"), (b"allow", b"POST")]))


def read_head(headers: Sequence[Header], find: Find, *, cut_at: int | None = None) -> Head:
    """Read the headers of a call.

    Args:
        headers: As they came.
        find: Finds the method.
        cut_at: Bytes at which the list was cut, since it was longer than may be; None means that it is whole.
    """
    own: dict[bytes, bytes] = {}
    others: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] == b":":
            if others or name in own:
                return _MALFORMED
            own[name] = value
        elif name in _FOREIGN or not _NAME.fullmatch(name) or _VALUE_ENDS.search(value):
            return _MALFORMED
        else:
            others[name] = value
    if cut_at is None and (not own.get(b":path") or not own.get(b":method") or not own.get(b":scheme")):
        return _MALFORMED
    if cut_at is None and own[b":method"] != b"POST":
        return _NO_POST
    if cut_at is None and not others.get(b"content-type", b"").startswith(b"application/grpc"):
        return _NO_GRPC
    plain = tuple(header for header in headers if header[0][:1] != b":")
    method = find(Asked(own.get(b":path", b"").decode("utf-8", "replace"), plain))
    return Head(
        method=method,
        timeout_s=_read_timeout(others.get(b"grpc-timeout")),
        encoding=_read_encoding(others),
        error=_refusal(others, cut_at),
    )


def _read_timeout(text: bytes | None) -> float | None:
    # What is no time is none, as in gRPC's C core.
    found = _TIMEOUT.fullmatch(text) if text else None
    return int(found[1]) * _UNITS[found[2]] if found else None


def _read_encoding(headers: dict[bytes, bytes]) -> bytes | None:
    encoding = headers.get(b"grpc-encoding", IDENTITY)
    return encoding if encoding in WINDOW_BITS else None


def _refusal(headers: dict[bytes, bytes], cut_at: int | None) -> ApiError | None:
    if cut_at is not None:
        return ResourceExhausted(f"received metadata size exceeds hard limit ({cut_at} bytes)")
    encoding = headers.get(b"grpc-encoding", IDENTITY)
    if encoding != IDENTITY and encoding not in WINDOW_BITS:
        shown = encoding[:100].decode("utf-8", "replace")
        return Unimplemented(f"Compression algorithm '{shown}' is not supported")
    return None

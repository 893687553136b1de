"""The body of a REST request: collected, and inflated where it is compressed.

Source: tensorflow_serving/util/net_http/server/internal/evhttp_request.cc.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

#: TensorFlow Serving inflates no body to more than this.
MAX_INFLATED_BYTES = 100 << 20

_GZIP = 16 + zlib.MAX_WBITS
#: A gzip file ends with its inflated size modulo 2^32, in four bytes, the lowest first.
_SIZE_BYTES = 4


class DisconnectedError(Exception):
    """The client left before it had sent everything."""


async def collect(receive: Callable[[], Awaitable[Any]]) -> bytes:
    """Receive a whole body.

    Raises:
        DisconnectedError: It did not come.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))
    chunks = []
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise DisconnectedError


def inflate(body: bytes) -> bytes:
    """Inflate a gzip body; what cannot be inflated, or only to too much, becomes the empty body, as it does there."""
    if int.from_bytes(body[-_SIZE_BYTES:], "little") > MAX_INFLATED_BYTES:
        return b""
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
    return inflated if inflater.eof else b""

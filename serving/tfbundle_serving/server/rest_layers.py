"""What stands before the REST API: the access log, what web pages may do, the health pages, the API keys and the bound
of bodies.

Each is an ASGI application around another, and there only where it has something to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tfbundle_serving.apis import json_reply
from tfbundle_serving.apis.errors import Unauthenticated
from tfbundle_serving.apis.health import ServingStatus

from . import access_log
from .access_log import Access, AccessLog
from .api_key import ApiKeys
from .health import Health
from .rest_protocol import target

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

#: Answers where it ought to be asked: whether the process answers at all, and whether it should be sent requests.
LIVE_PATH, READY_PATH = "/v1/health/live", "/v1/health/ready"

#: How long a client whose body is too large may go on sending it. Closed at once, most would never read the answer.
_LINGER_S = 5.0

_JSON = (b"content-type", b"application/json")
_PAYLOAD_TOO_LARGE = 413


async def reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes], is_last: bool = True) -> None:
    """Send a JSON reply."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})


def with_health(app: App, health: Health) -> App:
    """Answer GET and HEAD of the health pages, with 200 or 503, whatever models there are."""

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path not in (LIVE_PATH, READY_PATH) or scope["method"] not in ("GET", "HEAD"):
            await app(scope, receive, send)
            return
        status = health.overall() if path == READY_PATH else ServingStatus.SERVING
        shown: dict[str, Any] = {"status": status.name}
        if path == READY_PATH:
            shown["models"] = {name: each.name for name, each in health.models().items()}
        body = json_reply.write_json(shown) if scope["method"] == "GET" else b""
        await reply(send, 200 if status is ServingStatus.SERVING else 503, body)

    return answer


def with_cors(app: App, *, asks_for_key: bool) -> App:
    """Let any web page read what is answered below /v1/, errors and refusals too.

    Args:
        app: Answers.
        asks_for_key: Whether pages have to send a key, which they may only if they are told so.
    """
    allowed = b"Content-Type, Authorization, X-API-Key" if asks_for_key else b"Content-Type"
    headers = (
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", b"POST, GET"),
        (b"access-control-allow-headers", allowed),
    )

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        is_api = target(scope)[:4].lower() == b"/v1/"
        await app(scope, receive, send_with_headers if is_api else send)

    return answer


def with_keys(app: App, keys: ApiKeys) -> App:
    """Answer 401 to who has no key. Browsers ask OPTIONS without one, by their own rules."""

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        refusal = "" if scope["method"] == "OPTIONS" else keys.refusal(scope["headers"])
        if not refusal:
            await app(scope, receive, send)
            return
        challenge = (b"www-authenticate", b"Bearer")
        await _refuse(scope, receive, send, Unauthenticated.http_status, refusal, challenge)

    return answer


def with_bound(app: App, max_bytes: int) -> App:
    """Answer 413 to bodies of more bytes, before they are received where their length is said beforehand."""

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        is_chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > max_bytes:
                await refuse(scope, receive, send)
                return
            is_chunked = is_chunked or name == b"transfer-encoding"
        if not is_chunked:  # the HTTP parser holds the client to the length it said
            await app(scope, receive, send)
            return
        received = 0

        async def bounded() -> Any:
            nonlocal received
            if received <= max_bytes:
                message = await receive()
                received += len(message.get("body", b""))
            # As if the client had left: the application lets everything go, and answers nothing.
            return message if received <= max_bytes else {"type": "http.disconnect"}

        await app(scope, bounded, send)
        if received > max_bytes:
            await refuse(scope, receive, send)

    async def refuse(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        text = f"the request body is larger than {max_bytes} bytes, which --max_request_bytes allows at most"
        await _refuse(scope, receive, send, _PAYLOAD_TOO_LARGE, text)

    return answer


def with_log(app: App, log: AccessLog) -> App:
    """Take every request down."""

    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        subject = access_log.begin()
        # 499 is what a request is logged with whose client left before the answer.
        status, came, went = 499, 0, 0

        async def counted_receive() -> Any:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            return message

        async def counted_send(message: Any) -> None:
            nonlocal status, went
            if message["type"] == "http.response.start":
                status = message["status"]
            went += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, counted_receive, counted_send)
        finally:
            log.add(
                Access(
                    protocol="rest",
                    method=f"{scope['method']} {target(scope).decode('latin-1')}",
                    subject=subject,
                    code=status,
                    seconds=time.perf_counter() - begun,
                    bytes_in=came,
                    bytes_out=went,
                    peer=_peer(scope["client"]),
                )
            )

    return answer


async def _refuse(
    scope: Mapping[str, Any], receive: Receive, send: Send, status: int, text: str, *headers: tuple[bytes, bytes]
) -> None:
    """Answer with an error, then let what the client still sends run into nothing for a while, and close."""
    body = b"" if scope["method"] == "HEAD" else json_reply.write_error(text)
    await reply(send, status, body, (b"connection", b"close"), *headers, is_last=False)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_drain(receive), _LINGER_S)
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    message = await receive()
    while message["type"] == "http.request" and message.get("more_body"):
        message = await receive()


def _peer(client: tuple[str, int] | None) -> str:
    if client is None:
        return ""
    host, port = client
    # How a socket for both shows a client that came by IPv4.
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""HTTP connections of an event loop as a transport."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import ConnectionFailed, DeadlineExceeded

from .address import Address, Endpoint
from .connection import Connection, Tls
from .http_trouble import read_trouble
from .messages import late
from .per_loop import PerLoop
from .proxies import proxy_of
from .replicas import Replicas
from .request_headers import RequestHeaders
from .rest_messages import Answer, Request, read_answer, write_request
from .rest_transport import CONNECT_LIMIT_S
from .tls import ssl_context
from .transport import Call, Reply

if TYPE_CHECKING:
    import aiohttp

#: How long an idle connection is kept; libevent, below TensorFlow Serving, keeps it for minutes.
_KEPT_S = 30.0
#: A larger body is handed over piece by piece: as a whole it would hold up the event loop while it is copied.
_PIECE_BYTES = 1 << 20


class RestAioTransport:
    """A session of aiohttp, opened when first used and again in each event loop."""

    name = "REST"
    names_version = False

    def __init__(self, address: Address, connection: Connection) -> None:
        self._replicas = Replicas([_Server(endpoint) for endpoint in address.endpoints])
        self._connect_limit_s = CONNECT_LIMIT_S if len(address.endpoints) > 1 else None
        self._headers = RequestHeaders(connection)
        self._compress = connection.compression is not None
        self._context = ssl_context(connection.tls or Tls()) if address.is_secure and not connection.session else None
        self._given: Any = connection.session
        self._session: PerLoop[aiohttp.ClientSession] = PerLoop(self._open, self._shut)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._given is not None:
            given: aiohttp.ClientSession = self._given
            return given
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S, ssl=self._context or True)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def _shut(self, session: aiohttp.ClientSession) -> None:
        if session is not self._given:
            await session.close()
            await asyncio.sleep(0)  # the loop's turn, in which connections that are being closed are gone

    async def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply; see `RestTransport.send`."""
        method, request = write_request(call, compress=self._compress)
        headers = {**request.headers, **dict(self._headers.of(call))}
        session = self._session.get()
        replicas = self._replicas
        failed: ConnectionFailed | None = None
        for number, server in replicas.order():
            left_s = call.deadline.remaining_s()
            if left_s == 0.0:
                raise failed or late(call, server.endpoint)
            try:
                answer = await self._exchange(session, server, request, headers, left_s, call)
            except ConnectionFailed as error:
                replicas.failed(number)
                failed = error
                continue
            except DeadlineExceeded:
                replicas.failed(number)
                raise
            replicas.worked(number)
            reply: Reply = read_answer(method, answer, call, server.endpoint)
            return reply
        assert failed is not None, "there is at least one server"
        raise failed

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        server: _Server,
        request: Request,
        headers: Mapping[str, str],
        timeout_s: float | None,
        call: Call[Any],
    ) -> Answer:
        import aiohttp

        body: Any = request.body
        if body is not None and len(body) > _PIECE_BYTES:
            headers = {**headers, "content-length": str(len(body))}
            body = _in_pieces(body)
        # Above five seconds aiohttp would round up to whole ones.
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._connect_limit_s, ceil_threshold=math.inf)
        try:
            async with session.request(
                request.verb,
                server.url_of(request.path),
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=None if self._given is not None else server.proxy,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            trouble = read_trouble(error, call, server.endpoint)
            raise trouble from (None if isinstance(trouble, DeadlineExceeded) else error)
        found = response.headers
        return Answer(response.status, content, found.get("retry-after"), found.get("location"))

    async def close(self) -> None:
        """Close the connections of this event loop, unless they are the caller's."""
        await self._session.close()


async def _in_pieces(body: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(body)
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]


class _Server:
    """One server and its URLs, which aiohttp would otherwise read anew, and re-quote, for each call."""

    #: More different ones than that are not kept.
    _MOST_URLS = 1024

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.proxy = proxy_of(endpoint.url)
        self._urls: dict[str, Any] = {}

    def url_of(self, path: str) -> Any:
        """Give the URL of a path that is percent-encoded already."""
        url = self._urls.get(path)
        if url is None:
            from yarl import URL

            if len(self._urls) >= self._MOST_URLS:
                self._urls.clear()
            url = self._urls[path] = URL(self.endpoint.url + path, encoded=True)
        return url

"""Blocking HTTP connections as a transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from tfbundle_serving.apis.errors import ApiError, ConnectionFailed, DeadlineExceeded

from .address import Address, Endpoint
from .connection import Connection, Tls
from .http_trouble import read_trouble
from .messages import late
from .per_process import PerProcess
from .proxies import proxy_of
from .replicas import Replicas
from .request_headers import RequestHeaders
from .rest_messages import Answer, Request, read_answer, write_request
from .tls import ssl_context
from .transport import Call, Reply

if TYPE_CHECKING:
    import ssl

    import requests
    from urllib3 import PoolManager

#: Connections kept open to a server; more threads than that open and close their own.
_KEPT_CONNECTIONS = 64
#: With several servers, a host that does not even refuse must not hold a call until its deadline.
CONNECT_LIMIT_S = 2.0


class RestTransport:
    """Connections to each server, opened when first used and again in each forked process."""

    name = "REST"
    names_version = False

    def __init__(self, address: Address, connection: Connection) -> None:
        self._endpoints = address.endpoints
        self._headers = RequestHeaders(connection)
        self._compress = connection.compression is not None
        self._context = ssl_context(connection.tls or Tls()) if address.is_secure and not connection.session else None
        self._given: Any = connection.session
        self._servers: PerProcess[Replicas[_Server]] = PerProcess(self._open, _close)

    def _open(self) -> Replicas[_Server]:
        if self._given is not None:
            return Replicas([_SessionServer(endpoint, self._given) for endpoint in self._endpoints])
        limit_s = CONNECT_LIMIT_S if len(self._endpoints) > 1 else None
        return Replicas([_PooledServer(endpoint, self._context, limit_s) for endpoint in self._endpoints])

    def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply; see `Transport`.

        A server that cannot be reached is passed over for the next one, each at most once.
        """
        method, request = write_request(call, compress=self._compress)
        headers = {**request.headers, **dict(self._headers.of(call))}
        replicas = self._servers.get()
        failed: ConnectionFailed | None = None
        for number, server in replicas.order():
            left_s = call.deadline.remaining_s()
            if left_s == 0.0:
                raise failed or late(call, server.endpoint)
            try:
                answer = _exchange(server, request, headers, left_s, call)
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

    def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        self._servers.close()


class _Server(Protocol):
    """One server and how it is asked."""

    endpoint: Endpoint
    #: What the library behind it raises when there is no answer.
    troubles: tuple[type[BaseException], ...]

    def ask(self, request: Request, headers: Mapping[str, str], timeout_s: float | None) -> Answer:
        """Send a request and wait for the whole answer."""

    def close(self) -> None:
        """Close the connections that are ours."""


def _exchange(
    server: _Server, request: Request, headers: Mapping[str, str], timeout_s: float | None, call: Call[Any]
) -> Answer:
    try:
        return server.ask(request, headers, timeout_s)
    except server.troubles as error:
        trouble: ApiError = read_trouble(error, call, server.endpoint)
        raise trouble from (None if isinstance(trouble, DeadlineExceeded) else error)


def _close(replicas: Replicas[_Server]) -> None:
    for server in replicas.members:
        server.close()


class _PooledServer:
    """A server behind a pool of urllib3, on which requests is built as well; it costs half of what requests does."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext | None, connect_limit_s: float | None) -> None:
        from urllib3.exceptions import HTTPError
        from urllib3.util import Retry, Timeout

        self.endpoint = endpoint
        self.troubles: tuple[type[BaseException], ...] = (HTTPError, OSError)
        self._timeout = Timeout
        self._never = Retry(False, redirect=False)
        proxy = proxy_of(endpoint.url)
        self._manager = _manager(proxy, context, connect_limit_s)
        self._pool = self._manager.connection_from_url(endpoint.url)
        # A proxy for plain HTTP wants to be told the whole URL; one for HTTPS is passed through.
        is_told = proxy is not None and self._pool.scheme == "http"
        self._prefix = endpoint.url if is_told else urlsplit(endpoint.url).path

    def ask(self, request: Request, headers: Mapping[str, str], timeout_s: float | None) -> Answer:
        """Send a request and wait for the whole answer."""
        response = self._pool.urlopen(
            request.verb,
            self._prefix + request.path,
            request.body,
            headers,
            retries=self._never,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeout(total=timeout_s),
        )
        found = response.headers
        return Answer(response.status, response.data, found.get("retry-after"), found.get("location"))

    def close(self) -> None:
        """Close the connections."""
        self._manager.clear()


def _manager(proxy: str | None, context: ssl.SSLContext | None, connect_limit_s: float | None) -> PoolManager:
    from urllib3 import PoolManager, ProxyManager, make_headers

    from .timed_connections import timed_pools

    options: dict[str, Any] = {"maxsize": _KEPT_CONNECTIONS, "ssl_context": context}
    if proxy is None:
        manager = PoolManager(**options)
    else:
        parts = urlsplit(proxy)
        if parts.username:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = make_headers(proxy_basic_auth=secret)
        manager = ProxyManager(proxy, **options)
    manager.pool_classes_by_scheme = timed_pools(connect_limit_s)
    return manager


class _SessionServer:
    """A server asked through the caller's own session, with all that he set up there."""

    def __init__(self, endpoint: Endpoint, session: requests.Session) -> None:
        from requests import RequestException
        from urllib3.exceptions import HTTPError
        from urllib3.util import Timeout

        self.endpoint = endpoint
        self.troubles: tuple[type[BaseException], ...] = (RequestException, HTTPError, OSError)
        self._timeout: Any = Timeout
        self._session = session

    def ask(self, request: Request, headers: Mapping[str, str], timeout_s: float | None) -> Answer:
        """Send a request and wait for the whole answer."""
        response = self._session.request(
            request.verb,
            self.endpoint.url + request.path,
            data=request.body,
            headers=headers,
            timeout=self._timeout(total=timeout_s),  # taken as it is; the stubs know tuples only
            allow_redirects=False,
        )
        found = response.headers
        return Answer(response.status_code, response.content, found.get("retry-after"), found.get("location"))

    def close(self) -> None:
        """Leave the session open."""

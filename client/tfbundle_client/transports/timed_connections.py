"""HTTP connections of urllib3 on which one timeout means the whole exchange.

The timeouts of urllib3 start anew with every piece that arrives: a server that sends a byte now and then is waited for
without end. On the connections here the timeout at the start holds for connecting, sending, headers and body together,
since the socket is asked before each step for no more than the time that is left.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: A socket's timeout of 0 would mean not to wait at all, which fails in other words.
_SHORTEST_S = 0.001


class _TimedReader(io.RawIOBase):
    """Reads a socket's stream, each time with what is left of one timeout."""

    def __init__(self, stream: io.RawIOBase, sock: socket.socket, expires_at_s: float) -> None:
        self._stream = stream
        self._sock = sock
        self._expires_at_s = expires_at_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._expires_at_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left_s)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response whose read timeout, the socket's at the time when it is made, holds for all of it."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        timeout_s = sock.gettimeout()
        if timeout_s is not None:
            stream = self.fp.detach()
            self.fp = io.BufferedReader(_TimedReader(stream, sock, time.monotonic() + timeout_s))

    def begin(self) -> None:
        """Read the headers; http.client takes those that a closed connection cut off for all that there are."""
        super().begin()
        ends_with_connection = self.length is None and not self.chunked and self.headers.get("Connection") is None
        if self.headers.defects or (self.status == 200 and self.version == 11 and ends_with_connection):
            raise http.client.IncompleteRead(b"")


class _Timed(HTTPConnection):
    """A plain connection."""

    response_class = _TimedResponse
    #: The most seconds that connecting may take; None for as long as the whole.
    connect_limit_s: float | None = None

    def _new_conn(self) -> socket.socket:
        whole_s = self.timeout
        if not isinstance(whole_s, (int, float)):
            return super()._new_conn()
        started_s = time.monotonic()
        if self.connect_limit_s is not None:
            self.timeout = min(whole_s, self.connect_limit_s)
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = max(whole_s - (time.monotonic() - started_s), _SHORTEST_S)
        sock.settimeout(self.timeout)  # for the handshake and for sending
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        # A connection that is used again still has the timeout with which its last answer was read.
        if self.sock is not None and isinstance(self.timeout, (int, float)):
            self.sock.settimeout(self.timeout)
        super().request(*args, **kwargs)


class _TimedTls(_Timed, HTTPSConnection):
    """An encrypted connection."""


def timed_pools(connect_limit_s: float | None = None) -> dict[str, type[HTTPConnectionPool]]:
    """Give the pools that make such connections, by scheme, as `urllib3.PoolManager` wants them.

    Args:
        connect_limit_s: The most seconds that connecting may take; None for as long as the whole exchange. A pool
            hands its connections nothing that urllib3 does not know, so it is written onto classes.
    """
    plain = type("_TimedConnection", (_Timed,), {"connect_limit_s": connect_limit_s})
    encrypted = type("_TimedTlsConnection", (_TimedTls,), {"connect_limit_s": connect_limit_s})
    return {
        "http": type("_TimedPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_TimedTlsPool", (HTTPSConnectionPool,), {"ConnectionCls": encrypted}),
    }

"""Timeouts of `requests` that mean the whole answer.

The read timeout of requests and urllib3 starts anew with every piece that arrives: a server that sends a byte now and
then is waited for without end. The adapter here turns it into one limit for headers and body together, by asking the
socket before each read for no more than the time that is left. Mount it into a session of your own with
`session.mount("http://", TotalTimeoutAdapter())`.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


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


class _TimedHTTPConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedHTTPSConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _TimedHTTPConnection


class _TimedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _TimedHTTPSConnection


class TotalTimeoutAdapter(HTTPAdapter):
    """An HTTPAdapter whose read timeout is for the whole answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _TimedHTTPPool, "https": _TimedHTTPSPool}

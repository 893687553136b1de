"""uvicorn's HTTP protocol, made to treat requests as libevent does, which TensorFlow Serving stands on.

What comes before a body is bounded; the target is kept as it stands on the wire; who asks for another protocol
(`Upgrade: h2c`, as Java's client and `curl --http2` do) is answered in this one; what is no HTTP gets libevent's page,
and a few statuses have its words.

Source: libevent 2.1.12 http.c (evhttp_response_phrase_internal, evhttp_send_error, evhttp_parse_request_line).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

#: Bytes that a request line and its headers may have together. libevent has no bound, so ours is generous.
MAX_HEAD_BYTES = 1 << 20

#: Key of the scope under which the target stands as it came.
_TARGET = "tfbundle.target"

#: A request line, as far as libevent has to understand it before it looks at the method.
_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[0-9]\r?\n")

# Statuses that have another reason here than in Python, which differs from version to version: libevent has none for
# most of the newer ones. uvicorn's table is the whole process's, and nothing else in it speaks HTTP.
STATUS_LINE.update(
    {
        status: f"HTTP/1.1 {status} {reason}\r\n".encode()
        for status, reason in {
            413: "Request Entity Too Large",
            429: "Client Error",
            499: "Client Error",
            504: "Gateway Time-out",
        }.items()
    }
)

_TITLES = {
    400: "Bad Request",
    404: "Not Found",
    417: "Expectation Failed",
    501: "Not Implemented",
}


def page(status: int) -> bytes:
    """Write the kind of page with which libevent answers what it does not pass on."""
    title = _TITLES[status]
    text = f"<HTML><HEAD>\n<TITLE>{status} {title}</TITLE>\n</HEAD><BODY>\n<H1>{title}</H1>\n</BODY></HTML>\n"
    return text.encode()


def target(scope: Mapping[str, Any]) -> bytes:
    """Give a request's path, query and fragment as they stand on the wire."""
    found: bytes = scope[_TARGET]
    return found


class RestProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._is_in_head = True
        # Requests that began in the data at hand.
        self._begun = 0
        # Requests that are not answered yet: uvicorn knows the last of them alone.
        self._open: deque[RequestResponseCycle] = deque()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._unset_keepalive_if_required()
        self._begun = 0
        rest = data
        try:
            while rest:
                rest = self._feed(rest)
        except httptools.HttpParserInvalidMethodError:
            # The parser does not say where; only a request that the data begins with is sure to be what it stopped at.
            self._refuse(501 if self._begun == 1 and _REQUEST_LINE.match(data) else 400)
        except httptools.HttpParserError:
            self._refuse(400)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(400)

    def _feed(self, data: bytes) -> bytes:
        """Parse data; give back what the parser takes for another protocol, because the request asked for one.

        It is that request's body, so the request is read anew by a parser that does not see what was asked for.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self._refuse(501)
                return b""
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            self.parser.feed_data(head)
            return data[upgrade.args[0] :]
        return b""

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name != b"upgrade":
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun += 1
        self._head_bytes = 0
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """Its body begins."""
        if self.parser.should_upgrade():
            return
        self._is_in_head = False
        super().on_headers_complete()
        self._open.append(self.cycle)
        url = self.url
        if not url.startswith(b"/"):  # http://host/path?query
            path, query = self.scope["raw_path"], self.scope["query_string"]
            url = path + (b"?" + query if query else b"")
        cast(dict[str, Any], self.scope)[_TARGET] = url
        if self.scope["http_version"] == "1.0" and self.parser.should_keep_alive():
            # uvicorn closes after every HTTP/1.0 request; `ab -k` relies on being told that libevent does not.
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_message_complete(self) -> None:
        """Its body ends."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request is answered."""
        if self._open:
            self._open.popleft()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        """Let requests under way end unanswered; a write to what is closed would be an error."""
        self.pipeline.clear()
        for cycle in self._open:
            cycle.disconnected = True
            cycle.message_event.set()
        self._open.clear()

    def _refuse(self, status: int) -> None:
        """Answer what is no request, or none that is known, and close."""
        body = page(status)
        headers = [
            (b"content-type", b"text/html"),
            *self.server_state.default_headers,
            (b"connection", b"close"),
            (b"content-length", str(len(body)).encode()),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        self.transport.close()
        self._forget()

"""uvicorn's HTTP protocol, with a bound on what comes before a body, and libevent's page for what is no HTTP."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes that a request line and its headers may have together. libevent has no bound, so ours is generous.
MAX_HEAD_BYTES = 1 << 20

_PAGE = b"<HTML><HEAD>\n<TITLE>400 Bad Request</TITLE>\n</HEAD><BODY>\n<H1>Bad Request</H1>\n</BODY></HTML>\n"


class RestProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        """Its body begins."""
        self._is_in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  libevent says no more, either
        """Answer what is no request, and close."""
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\ncontent-length: {len(_PAGE)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + _PAGE)
        self.transport.close()

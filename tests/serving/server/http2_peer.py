"""A client that speaks HTTP/2 by hand and sends whatever it is told, right or wrong."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import hpack

from tests.serving.server.grpc_echo import Echo
from tfbundle_serving.server.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    frame,
    settings_frame,
)
from tfbundle_serving.server.http2.header_blocks import encode_headers

Frame = tuple[int, int, int, bytes]

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/t/Echo"),
    (b":authority", b"x"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
]

HELLO = PREFACE + settings_frame({})


def message(body: bytes, flag: int = 0) -> bytes:
    """Put gRPC's prefix before a message."""
    return struct.pack(">BI", flag, len(body)) + body


def with_header(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """Change a header of the request, or add one."""
    return [each for each in REQUEST if each[0] != name] + ([(name, value)] if value else [])


def call(stream: int, body: bytes = b"hi", headers: list[tuple[bytes, bytes]] = REQUEST) -> bytes:
    """Write a call."""
    opening = frame(HEADERS, END_HEADERS, stream, encode_headers(headers))
    return opening + frame(DATA, END_STREAM, stream, message(body))


def to(path: str) -> bytes:
    """Write the headers of a call of another method."""
    return encode_headers([(name, path.encode() if name == b":path" else value) for name, value in REQUEST])


class Peer:
    """A client that sends whatever it is told."""

    def __init__(self, echo: Echo) -> None:
        self._socket = socket.create_connection(("127.0.0.1", echo.port), timeout=20)
        self._rest = b""
        self._decoder = hpack.Decoder()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        """Send bytes; a server that hung up is found out when reading."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self._socket.sendall(piece)

    def finish(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):  # the server hung up first
            self._socket.shutdown(socket.SHUT_WR)

    def frames(self) -> Iterator[Frame]:
        """Read frames until the server closes."""
        while True:
            while len(self._rest) >= 9 and len(self._rest) >= 9 + int.from_bytes(self._rest[:3], "big"):
                stop = 9 + int.from_bytes(self._rest[:3], "big")
                kind, flags, stream = struct.unpack_from(">BBI", self._rest, 3)
                payload, self._rest = self._rest[9:stop], self._rest[stop:]
                yield kind, flags, stream, payload
            try:
                piece = self._socket.recv(1 << 16)
            except ConnectionError:
                return
            if not piece:
                return
            self._rest += piece

    def until(self, kind: int, stream: int | None = None) -> Frame:
        """Read until a frame of a kind."""
        seen = []
        for each in self.frames():
            if each[0] == kind and stream in (None, each[2]):
                return each
            seen.append(each)
        raise AssertionError(f"no such frame among {seen}")

    def answer(self, stream: int) -> tuple[bytes, dict[bytes, bytes]]:
        """Read the answer of a stream: its data, and its headers and trailers."""
        data = b""
        headers: dict[bytes, bytes] = {}
        for kind, flags, number, payload in self.frames():
            if kind == HEADERS:
                headers |= dict(self._decoder.decode(payload, raw=True)) if number == stream else {}
            elif kind == DATA and number == stream:
                data += payload
            elif kind == RST_STREAM and number == stream:
                headers[b"reset"] = payload
                return data, headers
            if number == stream and flags & END_STREAM:
                return data, headers
        raise AssertionError(f"closed after {data!r}, {headers}")

    def end(self) -> int | None:
        """Read until the server closes, and give the code of its GOAWAY; None without one."""
        codes = [struct.unpack_from(">II", payload)[1] for kind, _, _, payload in self.frames() if kind == GOAWAY]
        return codes[-1] if codes else None

"""HTTP/2 by hand: what the rules ask for, and what breaks them, with the standard library and an independent codec."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import grpc
import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.server.conftest import wait_for
from tests.serving.server.grpc_echo import Echo, echo_server
from tfbundle_serving.server.grpc_heads import read_head
from tfbundle_serving.server.grpc_methods import find_in
from tfbundle_serving.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    settings_frame,
    window_frame,
)
from tfbundle_serving.server.http2.header_blocks import STATIC, HeaderBlockError, HeaderDecoder, encode_headers
from tfbundle_serving.server.http2.huffman import decode_huffman

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


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A server."""
    with echo_server() as running:
        yield running


@pytest.fixture
def peer(echo: Echo) -> Iterator[Peer]:
    """A connection; after the test the server still answers others."""
    with Peer(echo) as opened:
        yield opened
    with Peer(echo) as other:
        other.send(HELLO, call(1))
        assert other.answer(1)[0] == message(b"hi")


def test_an_answer(peer: Peer) -> None:
    """Settings first; headers, data and trailers as gRPC has them."""
    peer.send(HELLO, call(1))
    assert next(peer.frames())[:3] == (SETTINGS, 0, 0)
    data, headers = peer.answer(1)
    assert data == message(b"hi")
    assert headers == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-accept-encoding": b"identity, deflate, gzip",
        b"grpc-status": b"0",
    }


def test_byte_by_byte(peer: Peer) -> None:
    """However the bytes are cut, padding and priority are taken off, and what is unknown is passed over."""
    block = encode_headers(REQUEST)
    padded = bytes([3]) + struct.pack(">IB", 0, 16) + block[:10] + bytes(3)
    sent = HELLO + frame(77, 0xFF, 5, b"unknown") + frame(PRIORITY, 0, 9, bytes(5))
    sent += frame(HEADERS, PADDED | HAS_PRIORITY, 1, padded)
    sent += frame(CONTINUATION, 0, 1, block[10:20]) + frame(CONTINUATION, END_HEADERS, 1, block[20:])
    body = message(b"some bytes")
    sent += frame(DATA, PADDED, 1, bytes([2]) + body[:3] + bytes(2)) + frame(DATA, PADDED, 1, bytes([0]))
    sent += frame(DATA, 0, 1, body[3:9]) + frame(DATA, END_STREAM | PADDED, 1, bytes([4]) + body[9:] + bytes(4))
    peer.send(*(sent[at : at + 1] for at in range(len(sent))))
    assert peer.answer(1)[0] == body


def test_windows(peer: Peer) -> None:
    """No more is sent than the stream's window, then the connection's, then the frame's size allow."""
    peer.send(PREFACE + settings_frame({4: 10, 5: 20_000}), call(1, b"x" * 200_000))
    assert peer.until(DATA)[3] == message(b"x" * 200_000)[:5]
    assert len(peer.until(DATA)[3]) == 5
    peer.send(frame(PING, 0, 0, b"12345678"))
    assert peer.until(PING)[1:] == (ACK, 0, b"12345678")
    peer.send(settings_frame({4: 110}))
    assert len(peer.until(DATA)[3]) == 100
    peer.send(window_frame(1, 1 << 20))
    got = 110
    while got < 65_535:
        got += len(peer.until(DATA)[3])
    assert got == 65_535
    peer.send(window_frame(0, 1 << 20))
    sizes = [len(peer.until(DATA)[3])]
    while got + sum(sizes) < 200_005:
        sizes.append(len(peer.until(DATA)[3]))
    assert max(sizes) == 20_000
    assert peer.until(HEADERS)[1] & END_STREAM


def test_streams_share_a_window(peer: Peer) -> None:
    """A stream whose window is shut holds no other one up."""
    peer.send(PREFACE + settings_frame({4: 0}), call(1, b"1" * 100), call(3, b"3" * 100), window_frame(3, 1000))
    assert peer.answer(3)[0] == message(b"3" * 100)
    peer.send(window_frame(1, 1000))
    assert peer.answer(1)[0] == message(b"1" * 100)


@pytest.mark.parametrize(
    ("headers", "status", "grpc_status"),
    [
        (with_header(b"content-type", b"text/plain"), b"415", None),
        (with_header(b"content-type", b""), b"415", None),
        ([(b":method", b"GET"), *REQUEST[1:]], b"405", None),
        (with_header(b"grpc-encoding", b"snappy"), b"200", b"12"),
        (with_header(b"content-type", b"application/grpc+proto"), b"200", b"0"),
        (with_header(b"grpc-timeout", b"soon"), b"200", b"0"),
        (with_header(b"grpc-timeout", b"1H"), b"200", b"0"),
        (with_header(b"x", b"y" * 20_000), b"200", b"8"),
    ],
)
def test_headers(peer: Peer, headers: list[tuple[bytes, bytes]], status: bytes, grpc_status: bytes | None) -> None:
    """What is no gRPC gets a status of HTTP, what cannot be served one of gRPC."""
    peer.send(HELLO, call(1, headers=headers))
    got = peer.answer(1)[1]
    assert (got[b":status"], got.get(b"grpc-status")) == (status, grpc_status)


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[1:],
        [*REQUEST, REQUEST[0]],
        [REQUEST[0], *REQUEST],
        with_header(b"Upper", b"x"),
        with_header(b"connection", b"close"),
        with_header(b"x", b"a\r\nb"),
    ],
)
def test_malformed_headers(peer: Peer, headers: list[tuple[bytes, bytes]]) -> None:
    """They end their stream, not the connection."""
    peer.send(HELLO, call(1, headers=headers), call(3))
    assert peer.answer(1)[1] == {b"reset": struct.pack(">I", ErrorCode.PROTOCOL_ERROR)}
    assert peer.answer(3)[0] == message(b"hi")


def test_messages_that_are_none(peer: Peer) -> None:
    """Cut off, of another kind, compressed without saying how, or not what was said: INTERNAL."""
    block = frame(HEADERS, END_HEADERS, 1, encode_headers(REQUEST))[9:]
    gzipped = encode_headers(with_header(b"grpc-encoding", b"gzip"))
    cases = [(block, message(b"hi")[:-1]), (block, b"\x02\0\0\0\0"), (block, message(b"hi", 1)), (block, b"\0")]
    peer.send(HELLO)
    for number, (head, data) in enumerate([*cases, (gzipped, message(b"hi", 1)), (gzipped, message(b"", 1))]):
        stream = 2 * number + 1
        peer.send(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, data))
        assert peer.answer(stream)[1][b"grpc-status"] == b"13", number


def test_a_client_that_goes_on_is_told(peer: Peer) -> None:
    """An answer before the request has ended is followed by a reset; what was on its way is passed over."""
    peer.send(HELLO, frame(HEADERS, END_HEADERS, 1, to("/nope")))
    assert peer.answer(1)[1][b"grpc-status"] == b"12"
    assert peer.until(RST_STREAM, 1)[3] == struct.pack(">I", ErrorCode.NO_ERROR)
    peer.send(frame(DATA, END_STREAM, 1, message(b"late")), window_frame(1, 5), call(3))
    assert peer.answer(3)[0] == message(b"hi")


OPEN = frame(HEADERS, END_HEADERS, 1, encode_headers(REQUEST))
FAULTS = {
    "HTTP/1": (b"GET / HTTP/1.1\r\n\r\n", ErrorCode.PROTOCOL_ERROR),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ErrorCode.PROTOCOL_ERROR),
    "no SETTINGS": (PREFACE + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "DATA first": (PREFACE + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "a frame too large": (HELLO + struct.pack(">IBI", (1 << 24) - 1 << 8, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "a large PING": (HELLO + struct.pack(">IBI", 100_000 << 8 | PING, 0, 0), ErrorCode.ENHANCE_YOUR_CALM),
    "DATA on stream 0": (HELLO + frame(DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on an idle stream": (HELLO + frame(DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padding of DATA": (HELLO + OPEN + frame(DATA, PADDED, 1, b"\x05x"), ErrorCode.PROTOCOL_ERROR),
    "no padding": (HELLO + OPEN + frame(DATA, PADDED, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "padding of HEADERS": (HELLO + frame(HEADERS, PADDED | END_HEADERS, 1, b"\x05x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 0": (HELLO + frame(HEADERS, END_HEADERS, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 2": (HELLO + frame(HEADERS, END_HEADERS, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "trailers without an end": (HELLO + OPEN + OPEN, ErrorCode.PROTOCOL_ERROR),
    "no block": (HELLO + frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "PING in a block": (HELLO + frame(HEADERS, 0, 1, b"\x82") + frame(PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "DATA in a block": (HELLO + frame(HEADERS, 0, 1, b"\x82") + frame(DATA, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION alone": (HELLO + frame(CONTINUATION, END_HEADERS, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "short PRIORITY": (HELLO + frame(PRIORITY, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "PRIORITY on stream 0": (HELLO + frame(PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "short RST_STREAM": (HELLO + OPEN + frame(RST_STREAM, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "RST_STREAM of an idle stream": (HELLO + frame(RST_STREAM, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS on a stream": (HELLO + frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "short SETTINGS": (HELLO + frame(SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
    "an ACK that says something": (HELLO + frame(SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "push": (HELLO + settings_frame({2: 2}), ErrorCode.PROTOCOL_ERROR),
    "a window too large": (HELLO + settings_frame({4: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
    "frames too small": (HELLO + settings_frame({5: 16_383}), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (HELLO + frame(PUSH_PROMISE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "short PING": (HELLO + frame(PING, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "PING on a stream": (HELLO + frame(PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "short GOAWAY": (HELLO + frame(GOAWAY, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (HELLO + frame(GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "short WINDOW_UPDATE": (HELLO + frame(WINDOW_UPDATE, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (HELLO + window_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of an idle stream": (HELLO + window_frame(5, 1), ErrorCode.PROTOCOL_ERROR),
    "a connection's window too large": (HELLO + window_frame(0, (1 << 31) - 1), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_end_the_connection(peer: Peer, case: str) -> None:
    """Each with the standard's code, and nobody else notices."""
    sent, code = FAULTS[case]
    peer.send(sent)
    assert peer.end() == code


def test_faults_of_a_stream(peer: Peer) -> None:
    """A window that overflows, or opens by nothing, ends its stream only."""
    wait = to("/t/Wait")
    for stream, credit, code in ((1, 0, ErrorCode.PROTOCOL_ERROR), (3, (1 << 31) - 1, ErrorCode.FLOW_CONTROL_ERROR)):
        peer.send(HELLO if stream == 1 else b"", frame(HEADERS, END_HEADERS, stream, wait))
        peer.send(frame(DATA, END_STREAM, stream, message(b"")), window_frame(stream, credit))
        assert peer.until(RST_STREAM, stream)[3] == struct.pack(">I", code)


FLOODS = {
    "PING": frame(PING, 0, 0, bytes(8)),
    "SETTINGS": settings_frame({4: 1000}),
    "empty DATA": frame(DATA, 0, 1),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    "unknown": frame(99, 0, 0),
}


@pytest.mark.parametrize("case", FLOODS)
def test_floods(peer: Peer, case: str) -> None:
    """What asks for nothing is put up with for a while."""
    peer.send(HELLO + OPEN, *[FLOODS[case] * 1000] * 100)
    assert peer.end() in (ErrorCode.ENHANCE_YOUR_CALM, None)


def test_rapid_resets(echo: Echo, peer: Peer) -> None:
    """Streams that are opened and reset at once end the connection, and leave nothing running."""
    wait = to("/t/Wait")
    peer.send(HELLO)
    for first in range(1, 60_001, 2000):
        opened = (
            frame(HEADERS, END_HEADERS, number, wait)
            + frame(DATA, END_STREAM, number, message(b""))
            + frame(RST_STREAM, 0, number, struct.pack(">I", 8))
            for number in range(first, first + 2000, 2)
        )
        peer.send(b"".join(opened))
    assert peer.end() in (ErrorCode.ENHANCE_YOUR_CALM, None)
    wait_for(lambda: echo.begun == echo.cancelled, "every call to end")


def test_headers_without_end(peer: Peer) -> None:
    """CONTINUATION after CONTINUATION is stopped at a bound, whatever it decodes to."""
    peer.send(HELLO, frame(HEADERS, 0, 1, b"\x82"), *[frame(CONTINUATION, 0, 1, b"\x82" * 10_000)] * 50)
    assert peer.end() in (ErrorCode.ENHANCE_YOUR_CALM, None)


def test_more_streams_than_allowed_are_refused(peer: Peer) -> None:
    """With the code that tells a client to try again; the others are answered."""
    wait = to("/t/Wait")
    peer.send(HELLO, b"".join(frame(HEADERS, END_HEADERS, 2 * number + 1, wait) for number in range(4097)))
    assert peer.until(RST_STREAM)[2:] == (2 * 4096 + 1, struct.pack(">I", ErrorCode.REFUSED_STREAM))


def test_who_does_not_read_is_not_waited_for(echo: Echo) -> None:
    """Answers that nobody reads stop being sent; the memory they take is that of the calls that may be open."""
    large = to("/t/Large")
    with Peer(echo) as peer:
        peer.send(PREFACE + settings_frame({4: (1 << 31) - 1}) + window_frame(0, (1 << 31) - 70_000))
        for number in range(20):
            stream = 2 * number + 1
            head = frame(HEADERS, END_HEADERS, stream, large)
            peer.send(head + frame(DATA, END_STREAM, stream, message(b"5000000")))
        with grpc.insecure_channel(echo.target) as channel:
            assert channel.unary_unary("/t/Echo")(b"1", timeout=30) == b"1"
        connection = next(each for each in echo.server._connections if not each.is_idle)
        wait_for(lambda: connection.outgoing.is_paused, "the server to stop sending")
        assert len(peer.answer(39)[0]) == 5_000_005


def test_a_client_that_leaves_politely(peer: Peer) -> None:
    """GOAWAY: what is open is answered, then the connection is closed."""
    peer.send(HELLO, call(1), frame(GOAWAY, 0, 0, bytes(8)))
    assert peer.answer(1)[0] == message(b"hi")
    assert peer.end() is None


def test_idle_connections_cost_little(echo: Echo) -> None:
    """Hundreds of them, some in the middle of the preface, hold nobody up, and go when their clients do."""
    with contextlib.ExitStack() as opened:
        for number in range(300):
            opened.enter_context(Peer(echo)).send(HELLO[: number % len(HELLO)])
        wait_for(lambda: echo.connections() >= 300, "the connections")
        with Peer(echo) as peer:
            peer.send(HELLO, call(1))
            assert peer.answer(1)[0] == message(b"hi")
    wait_for(lambda: echo.connections() == 0, "the connections to be closed")


anything = st.tuples(
    st.integers(0, 12), st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 255]), st.integers(0, 9), st.binary(max_size=40)
)
calls = st.integers(0, 4).map(lambda number: ("call", 2 * number + 1))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(st.one_of(anything, calls), max_size=12), noise=st.binary(max_size=60))
def test_frames_in_any_order(echo: Echo, sent: list[tuple[object, ...]], noise: bytes) -> None:
    """Whatever is sent behind a good beginning, the server closes or answers, and never fails."""
    with Peer(echo) as peer:
        peer.send(HELLO)
        for each in sent:
            peer.send(call(each[1]) if each[0] == "call" else frame(*each))  # type: ignore[arg-type]
        peer.send(noise)
        peer.finish()
        begun = time.monotonic()
        peer.end()
        assert time.monotonic() - begun < 10
    assert not echo.faults


def test_huffman_code() -> None:
    """An independent encoder's strings are read; what is none is refused."""
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    every = bytes(range(256))
    for text in (b"", b"a", b"www.example.com", every, every[::-1] * 3):
        assert decode_huffman(encoder.encode(text)) == text
    for bad in (b"\x00", b"\xff\xff\xff\xff", b"\xff" * 5, b"\x1f\xff", b"\xfe"):
        with pytest.raises(ValueError, match="string"):
            decode_huffman(bad)


names = st.sampled_from([b"a", b":path", b"grpc-timeout", b"x-long-name-of-a-header"])
lists = st.lists(st.lists(st.tuples(names, st.binary(max_size=120)), max_size=8), max_size=12)


@settings(max_examples=100, deadline=None)
@given(blocks=lists, sizes=st.lists(st.integers(0, 4096), max_size=3), huffman=st.booleans())
def test_compressed_headers(blocks: list[list[tuple[bytes, bytes]]], sizes: list[int], huffman: bool) -> None:
    """An independent encoder's blocks are read in order, and ours are read by an independent decoder."""
    encoder, decoder, judge = hpack.Encoder(), HeaderDecoder(1 << 20), hpack.Decoder()
    for number, headers in enumerate(blocks):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == headers
        assert [tuple(each) for each in judge.decode(encode_headers(headers), raw=True)] == headers
    assert STATIC == hpack.table.HeaderTable.STATIC_TABLE


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_blocks_that_are_none(block: bytes) -> None:
    """Any bytes are headers or a fault; what came out of them is a head of a call or is refused."""
    with contextlib.suppress(HeaderBlockError):
        read_head(HeaderDecoder(1000).decode(block), find_in({}))


def test_windows_that_open_by_bytes(peer: Peer) -> None:
    """Thousands of streams whose windows are shut cost nothing when another's opens a byte at a time."""
    streams = range(1, 4001, 2)
    peer.send(PREFACE + settings_frame({4: 0}), b"".join(call(number) for number in streams))
    begun = time.monotonic()
    peer.send(window_frame(0, 1) * 20_000, window_frame(1, 100))
    assert peer.answer(1)[0] == message(b"hi")
    assert time.monotonic() - begun < 5

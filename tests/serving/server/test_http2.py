"""HTTP/2 by hand: a conversation as the rules ask for it."""

from __future__ import annotations

import contextlib
import struct
import time

from tests.serving.server.conftest import wait_for
from tests.serving.server.grpc_echo import Echo
from tests.serving.server.http2_peer import HELLO, REQUEST, Peer, call, message, to, with_header
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
    RST_STREAM,
    SETTINGS,
    ErrorCode,
    frame,
    settings_frame,
    window_frame,
)
from tfbundle_serving.server.http2.header_blocks import encode_headers


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


def test_more_streams_than_allowed_are_refused(peer: Peer) -> None:
    """With the code that tells a client to try again; the others are answered."""
    wait = to("/t/Wait")
    peer.send(HELLO, b"".join(frame(HEADERS, END_HEADERS, 2 * number + 1, wait) for number in range(4097)))
    assert peer.until(RST_STREAM)[2:] == (2 * 4096 + 1, struct.pack(">I", ErrorCode.REFUSED_STREAM))


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


def test_windows_that_open_by_bytes(peer: Peer) -> None:
    """Thousands of streams whose windows are shut cost nothing when another's opens a byte at a time."""
    streams = range(1, 4001, 2)
    peer.send(PREFACE + settings_frame({4: 0}), b"".join(call(number) for number in streams))
    begun = time.monotonic()
    peer.send(window_frame(0, 1) * 20_000, window_frame(1, 100))
    assert peer.answer(1)[0] == message(b"hi")
    assert time.monotonic() - begun < 5

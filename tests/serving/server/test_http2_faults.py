"""HTTP/2 by hand: what breaks the rules ends the stream or the connection, whatever the order."""

from __future__ import annotations

import struct
import time

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.server.conftest import wait_for
from tests.serving.server.grpc_echo import Echo
from tests.serving.server.http2_peer import HELLO, REQUEST, Peer, call, message, to
from tfbundle_serving.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
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
from tfbundle_serving.server.http2.header_blocks import encode_headers

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

"""Clients that break no rule of HTTP/2 and still would be too much, or that are only slow."""

from __future__ import annotations

import time

import grpc

from tests.serving.server.conftest import wait_for
from tests.serving.server.grpc_echo import Echo, echo_server
from tests.serving.server.http2_peer import HELLO, Frame, Peer, call, message, to
from tfbundle_serving.server.http2.frames import ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, frame
from tfbundle_serving.server.http2.huffman import _KNOWN_BYTES, _decode_known, decode_huffman


def test_who_asks_and_never_reads_is_not_read_from(echo: Echo) -> None:
    """Refusals are not bounded by any window, so the server stops taking calls until some of them were read."""
    calls, at_once = 300_000, 3000
    block = to("/no/such")
    with Peer(echo) as peer:
        peer.send(HELLO)
        wait_for(lambda: echo.connections() == 1, "the connection")
        (connection,) = echo.server._connections
        sent = 0
        while not connection._is_deaf:
            assert sent < calls, "the server read on"
            numbers = range(2 * sent + 1, 2 * (sent + at_once), 2)
            # More at once would be too many streams.
            peer.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, number, block) for number in numbers))
            sent += at_once
            wait_for(lambda: connection._is_deaf or connection.last == numbers[-1], "the calls to be read")  # noqa: B023
            wait_for(lambda: connection.is_idle, "the calls to be refused")
        assert connection._transport.get_write_buffer_size() < 1 << 23
        with grpc.insecure_channel(echo.target) as channel:
            assert channel.unary_unary("/t/Echo")(b"1", timeout=30) == b"1"
        # Whoever reads in the end is served again.
        last = 2 * sent - 1
        assert peer.until(HEADERS, last)[2] == last


def test_calls_that_come_too_late_for_a_server_that_leaves() -> None:
    """A slow client sends calls that the server will not answer: they harm none of those that it will."""
    with echo_server() as echo, Peer(echo) as peer:
        peer.send(HELLO, frame(HEADERS, END_HEADERS, 1, to("/t/Wait")), frame(DATA, END_STREAM, 1, message(b"")))
        wait_for(lambda: echo.begun == 1, "the call to begin")
        (connection,) = echo.server._connections
        echo.server.loop.call_soon_threadsafe(connection.leave)
        seen: list[Frame] = []
        for each in peer.frames():
            seen.append(each)
            if sum(kind == GOAWAY for kind, *_ in seen) == 2:
                break
        # The client has not answered the ping between them: it has read neither.
        assert [kind for kind, *_ in seen[-3:]] == [GOAWAY, PING, GOAWAY]
        peer.send(call(3), frame(PING, ACK, 0, seen[-2][3]), call(5))
        echo.may_end.set()
        assert peer.answer(1)[0] == message(b"waited")
        assert peer.end() is None


def test_a_connection_of_short_calls_is_not_idle() -> None:
    """Calls that are over whenever the server looks keep a connection open."""
    with echo_server(("grpc.max_connection_idle_ms", 100)) as echo, grpc.insecure_channel(echo.target) as channel:
        ask = channel.unary_unary("/t/Echo")
        assert ask(b"1", timeout=30) == b"1"
        (connection,) = echo.server._connections
        begun = time.monotonic()
        while time.monotonic() - begun < 0.5:
            assert ask(b"1", timeout=30) == b"1"
            time.sleep(0.01)
        assert list(echo.server._connections) == [connection]


def test_long_strings_are_not_remembered() -> None:
    """Whoever sends other ones each time would fill the memory with them."""
    _decode_known.cache_clear()
    for size in (_KNOWN_BYTES // 5 * 5, _KNOWN_BYTES // 5 * 5 + 5):
        assert decode_huffman(bytes(size)) == b"0" * (size * 8 // 5)
    assert _decode_known.cache_info().currsize == 1

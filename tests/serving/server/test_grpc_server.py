"""Our gRPC server, judged by the official client: every way to call, to cancel, to wait, to say too much."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.serving.server.conftest import wait_for
from tests.serving.server.grpc_echo import Echo, echo_server
from tfbundle_serving.server.grpc_options import read_options

UNBOUNDED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A server."""
    with echo_server() as running:
        yield running


@pytest.fixture
def channel(echo: Echo) -> Iterator[grpc.Channel]:
    """A channel to it."""
    with grpc.insecure_channel(echo.target, options=UNBOUNDED) as opened:
        yield opened


def error_of(call: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """Call what fails, and give code and text."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=options.pop("timeout", 30), **options)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("size", [0, 1, 4091, 16_379, 16_384, 65_530, 65_536, 300_000, 5_000_000])
@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_messages_of_every_size(channel: grpc.Channel, size: int, compression: grpc.Compression) -> None:
    """Come back equal, compressed on the way or not."""
    message = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert channel.unary_unary("/t/Echo")(message, timeout=30, compression=compression) == message


def test_a_hundred_megabytes_both_ways(channel: grpc.Channel) -> None:
    """Beside small calls, which are answered meanwhile."""
    message = bytes(range(256)) * (100 << 12)
    echo = channel.unary_unary("/t/Echo")
    large = echo.future(message, timeout=60)
    small = [echo(b"small", timeout=30) for _ in range(20)]
    assert large.result() == message
    assert set(small) == {b"small"}


@pytest.mark.parametrize("text", ["x", "", "100% é\n\t\x7f ☃", "y" * 2000])
def test_errors(channel: grpc.Channel, text: str) -> None:
    """Texts of any characters arrive, those of more than 1,024 bytes cut."""
    if text:
        shown = text if len(text) < 1024 else text[:1024] + "...TRUNCATED"
        assert error_of(channel.unary_unary("/t/Fail"), text.encode()) == ("INVALID_ARGUMENT", shown)


def test_a_fault_of_ours_is_logged_once(channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    """It is INTERNAL, and the log has its traceback."""
    with caplog.at_level(logging.ERROR):
        code, text = error_of(channel.unary_unary("/t/Fail"), b"")
    assert (code, text) == ("INTERNAL", "ZeroDivisionError: a fault of ours")
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_what_is_not_served(channel: grpc.Channel) -> None:
    """Unknown methods and services are UNIMPLEMENTED, without a text, as from C++."""
    for path in ("/t/Nope", "/nope/Echo", "/x"):
        assert error_of(channel.unary_unary(path), b"x" * 100_000) == ("UNIMPLEMENTED", "")


def test_streams_of_messages(channel: grpc.Channel) -> None:
    """Messages and, behind them, an error."""
    stream = channel.unary_stream("/t/Count")(b"500", timeout=30)
    assert [int(next(stream)) for _ in range(500)] == list(range(500))
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.details() == "no more"


def test_calls_with_another_number_of_messages(channel: grpc.Channel) -> None:
    """None is an error, as in C++; of many the first is answered."""
    call = channel.stream_unary("/t/Echo")
    assert error_of(call, iter([])) == ("INTERNAL", "No payload")
    assert call(iter([b"1", b"2", b"3"]), timeout=30) == b"1"


def test_deadlines(echo: Echo, channel: grpc.Channel) -> None:
    """The handler is told how long it has, and is cancelled when that is over."""
    before = echo.cancelled
    call = channel.unary_unary("/t/Wait")
    assert error_of(call, b"", timeout=0.3)[0] == "DEADLINE_EXCEEDED"
    assert echo.remaining is not None
    assert 0.1 < echo.remaining <= 0.32  # gRPC rounds up
    wait_for(lambda: echo.cancelled == before + 1, "the handler to be cancelled")
    wait_for(lambda: not echo.server.timed, "the call to be forgotten")


def test_cancelled_calls(echo: Echo, channel: grpc.Channel) -> None:
    """Who cancels, or leaves without a word, has the handler cancelled."""
    begun, before = echo.begun, echo.cancelled
    calls = [channel.unary_unary("/t/Wait").future(b"", timeout=30) for _ in range(50)]
    wait_for(lambda: echo.begun == begun + 50, "the calls to begin")
    for call in calls:
        call.cancel()
    wait_for(lambda: echo.cancelled == before + 50, "the handlers to be cancelled")
    other = grpc.insecure_channel(echo.target)
    call = other.unary_unary("/t/Wait").future(b"", timeout=30)
    wait_for(lambda: echo.begun == begun + 51, "the call to begin")
    other.close()
    assert call.code() is grpc.StatusCode.CANCELLED
    wait_for(lambda: echo.cancelled == before + 51, "the handler to be cancelled")


def test_a_thousand_calls_at_once(echo: Echo) -> None:
    """On one channel, and on fifty: every answer belongs to its call."""

    async def run() -> None:
        async with grpc.aio.insecure_channel(echo.target) as channel:
            call = channel.unary_unary("/t/Echo")
            messages = [str(number).encode() for number in range(1000)]
            assert list(await asyncio.gather(*(call(each, timeout=60) for each in messages))) == messages
        channels = [grpc.aio.insecure_channel(echo.target, options=[("x", number)]) for number in range(50)]
        try:
            calls = [each.unary_unary("/t/Echo")(b"x" * 1000, timeout=60) for each in channels for _ in range(4)]
            assert set(await asyncio.gather(*calls)) == {b"x" * 1000}
        finally:
            for each in channels:
                await each.close()

    asyncio.run(run())


def test_metadata_of_every_kind(channel: grpc.Channel) -> None:
    """Binary values and many headers pass; more than 16 KiB of them are refused, and the channel goes on."""
    call = channel.unary_unary("/t/Echo")
    metadata = [(f"key-{number}", "v" * 50) for number in range(100)] + [("x-bin", bytes(range(256)))]
    for _ in range(3):
        assert call(b"1", metadata=metadata, timeout=30) == b"1"
    assert error_of(call, b"1", metadata=[("x", "y" * 30_000)])[0] == "RESOURCE_EXHAUSTED"
    assert call(b"1", timeout=30) == b"1"


def test_replies_wait_for_who_reads_slowly(echo: Echo) -> None:
    """A reply larger than the client's window is sent as the client takes it."""
    options = [*UNBOUNDED, ("grpc.http2.lookahead_bytes", 70_000), ("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(echo.target, options=options) as channel:
        calls = [channel.unary_unary("/t/Large").future(b"3000000", timeout=60) for _ in range(4)]
        assert [len(call.result()) for call in calls] == [3_000_000] * 4


def test_options() -> None:
    """Each bound that --grpc_channel_arguments sets holds."""
    options = (("grpc.max_receive_message_length", 40), ("grpc.max_send_message_length", 50))
    with (
        echo_server(*options, ("grpc.max_concurrent_streams", 2)) as echo,
        grpc.insecure_channel(echo.target) as channel,
    ):
        call = channel.unary_unary("/t/Echo")
        assert call(bytes(40), timeout=30) == bytes(40)
        assert error_of(call, bytes(41)) == ("RESOURCE_EXHAUSTED", "Received message larger than max (41 vs. 40)")
        large = error_of(channel.unary_unary("/t/Large"), b"51")
        assert large == ("RESOURCE_EXHAUSTED", "Sent message larger than max (51 vs. 50)")
        waiting = [channel.unary_unary("/t/Wait").future(b"", timeout=30) for _ in range(5)]
        wait_for(lambda: echo.begun == 2, "two calls to begin")
        echo.may_end.set()
        assert [each.result() for each in waiting] == [b"waited"] * 5


def test_options_without_a_meaning(caplog: pytest.LogCaptureFixture) -> None:
    """They are accepted with a line each; numbers are kept within what HTTP/2 allows."""
    with caplog.at_level(logging.INFO):
        limits = read_options(
            [
                ("a", "b"),
                ("grpc.max_concurrent_streams", "x"),
                ("grpc.http2.max_frame_size", 1),
                ("grpc.so_reuseport", 1),
            ]
        )
    assert len(caplog.records) == 2
    assert limits.connection.max_frame_bytes == 16_384
    assert read_options([("grpc.keepalive_time_ms", (1 << 31) - 1)]).keepalive_s is None


def test_connections_that_age() -> None:
    """One that is idle, or old, is closed without a call being lost: the client opens another."""
    for option in ("grpc.max_connection_idle_ms", "grpc.max_connection_age_ms"):
        with echo_server((option, 200)) as echo, grpc.insecure_channel(echo.target) as channel:
            call = channel.unary_unary("/t/Echo")
            for _ in range(2):
                assert call(b"1", timeout=30) == b"1"
                wait_for(lambda: echo.connections() == 0, "the connection to be closed")


def test_keepalive_pings(echo: Echo) -> None:
    """A client that pings often is answered, and not told to calm down."""
    options = [("grpc.keepalive_time_ms", 10), ("grpc.keepalive_permit_without_calls", 1)]
    options += [("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(echo.target, options=options) as channel:
        call = channel.unary_unary("/t/Wait").future(b"", timeout=30)
        with pytest.raises(grpc.FutureTimeoutError):
            call.result(timeout=0.3)
        assert channel.unary_unary("/t/Echo")(b"1", timeout=30) == b"1"
        call.cancel()


def test_closing_waits_for_calls_under_way() -> None:
    """New calls are refused, those under way are answered, idle connections are closed at once."""
    with (
        echo_server() as echo,
        grpc.insecure_channel(echo.target) as idle,
        grpc.insecure_channel(echo.target, [("x", 1)]) as channel,
    ):
        assert idle.unary_unary("/t/Echo")(b"1", timeout=30) == b"1"
        call = channel.unary_unary("/t/Wait").future(b"", timeout=30)
        wait_for(lambda: echo.begun == 1, "the call to begin")
        closing = threading.Thread(target=lambda: echo.loop.run(echo.server.close(30.0)))
        closing.start()
        wait_for(lambda: echo.connections() == 1, "the idle connection to be closed")
        assert error_of(channel.unary_unary("/t/Echo"), b"2")[0] == "UNAVAILABLE"
        echo.may_end.set()
        assert call.result() == b"waited"
        closing.join(10)
        assert not closing.is_alive()


def test_closing_cancels_what_takes_too_long() -> None:
    """After the grace calls are cancelled, and their clients told to go elsewhere."""
    with echo_server() as echo, grpc.insecure_channel(echo.target) as channel:
        call = channel.unary_unary("/t/Wait").future(b"", timeout=30)
        wait_for(lambda: echo.begun == 1, "the call to begin")
        begun = time.monotonic()
        echo.loop.run(echo.server.close(0.1))
        assert time.monotonic() - begun < 5
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_the_server_does_without_grpc() -> None:
    """The official package is the client's, and the judge here."""
    code = "import sys, tfbundle_serving.server.lifecycle; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

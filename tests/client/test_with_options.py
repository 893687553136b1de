"""Copies of a client with other settings, on the same connections; and how all of them end."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.faces import opened
from tfbundle_client import (
    ApiError,
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Retry,
    Unavailable,
)
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection
from tfbundle_client.transports.request_headers import RequestHeaders
from tfbundle_client.transports.transport import StatusCall
from tfbundle_serving.apis.model_spec import ModelSpec


def test_other_settings(client: Client) -> None:
    """The copy's timeout, retries and hooks are its own; the original keeps what it had."""
    events: list[Any] = []
    client.metadata("slow")
    hurried = client.with_options(timeout=0.05, retry=None, on_response=events.append)
    with pytest.raises(DeadlineExceeded):
        _get(hurried.predict("slow", [1.0]), client)
    assert isinstance(events[-1].error, DeadlineExceeded)
    assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]
    assert len(events) == len([event for event in events if event.model == "slow"])


def _get(answer: Any, client: Any) -> Any:
    """Wait for what a method of a copy gives: the face of an AsyncClient wraps its own methods only."""
    return client._wait(answer) if hasattr(client, "_wait") else answer


def test_closing_a_copy_leaves_the_connections_open(client: Client) -> None:
    """They close with the client that was made first; then a copy says so."""
    copy = client.with_options(timeout=5)
    closing: Any = copy.close
    _get(closing(), client)
    with pytest.raises(FailedPrecondition, match="is closed"):
        _get(copy.predict("half_plus_two", [1.0]), client)
    assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]


def test_copies_end_with_the_original(url: str) -> None:
    """A copy opens no connections of its own behind a client that was closed."""
    with Client(url) as client:
        copy = client.with_options(timeout=5)
        assert copy.predict("half_plus_two", [1.0]).output.tolist() == [2.5]
    with pytest.raises(FailedPrecondition, match="the client is closed"):
        copy.predict("half_plus_two", [1.0])


def test_headers_take_the_place_of_those_before() -> None:
    """A header of a copy, or of one call, is sent in place of the connection's of the same name."""
    headers = RequestHeaders(Connection(headers={"X-Team": "a", "x-other": "b"}))
    call = StatusCall(spec=ModelSpec("m"), deadline=_deadline(), headers=(("x-team", "c"),))
    assert dict(headers.of(call)) == {"x-team": "c", "x-other": "b"}
    assert len(headers.of(call)) == 2


def _deadline() -> Any:
    from tfbundle_client.calls.deadline import Deadline

    return Deadline.after(1.0)


def test_headers_reach_the_server(listening: Callable[..., Any]) -> None:
    """Over the wire, too: those of the client and those of the copy of a copy."""
    seen: list[bytes] = []

    def answer(connection: Any) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\n" + b'{"model_version_status": []}')

    with listening(answer) as port, Client(f"http://127.0.0.1:{port}", headers={"x-a": "1", "x-b": "1"}) as client:
        client.with_options(headers={"X-B": "2"}).with_options(headers={"x-c": "3"}).status("m")
    lines = seen[0].lower().split(b"\r\n")
    assert [line for line in lines if line[:2] == b"x-"] == [b"x-a: 1", b"x-b: 2", b"x-c: 3"]


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"headers": {"bad name": "x"}}, {"headers": {"x-bin": "x"}}])
def test_settings_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    """At once, as those of a new client are."""
    with Client("grpc://localhost:1") as client, pytest.raises(InvalidArgument):
        client.with_options(**wrong)


def test_a_retry_budget_of_its_own(free_port: int) -> None:
    """A copy with another policy follows it."""
    with Client(f"http://127.0.0.1:{free_port}", retry=None) as client:
        for each, attempts in ((client, 1), (client.with_options(retry=Retry(attempts=2, first_delay_s=0)), 2)):
            with pytest.raises(Unavailable) as caught:
                each.status("m")
            assert caught.value.attempts == attempts


def test_closing_in_the_middle_of_a_call(url: str) -> None:
    """The call ends, with its answer or with an error of ours, and leaves no connection behind."""
    client = Client(url, timeout=20)
    client.metadata("slow")
    found: list[Any] = []
    sent = threading.Event()

    def ask() -> None:
        try:
            found.append(client.with_options(on_request=lambda _: sent.set()).predict("slow", [1.0]))
        except ApiError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert sent.wait(10)
    client.close()
    thread.join(10)
    assert len(found) == 1


def test_an_awaiting_task_is_not_cancelled_by_a_close(url: str) -> None:
    """Closing an AsyncClient ends its calls with an error of ours; the task that waits goes on living."""

    async def run() -> None:
        client = AsyncClient(url, timeout=20)
        await client.metadata("slow")
        task = asyncio.create_task(client.predict("slow", [1.0]))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises((Cancelled, FailedPrecondition)):
            await task

    asyncio.run(run())


def test_a_cancelled_call_is_cancelled(url: str) -> None:
    """Cancelling the task that waits for a call ends it at once, and the client stays of use."""

    async def run() -> None:
        async with AsyncClient(url, timeout=20) as client:
            await client.metadata("slow")
            task = asyncio.create_task(client.predict("slow", [1.0]))
            await asyncio.sleep(0.05)
            task.cancel()
            started_s = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - started_s < 0.5
            assert (await client.predict("half_plus_two", [1.0])).output.tolist() == [2.5]

    asyncio.run(run())


def test_secrets_do_not_show() -> None:
    """Neither in what is printed of a client and its settings, nor in a pickle."""
    settings = Connection(headers={"x-key": "hush"}, bearer_token="hush")
    assert "hush" not in repr(settings)
    with Client("grpc://localhost:1", bearer_token="hush") as client:
        assert "hush" not in repr(client)
        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(client)


@pytest.mark.parametrize("kind", [DeadlineExceeded, Unavailable, InvalidArgument])
def test_errors_can_be_pickled(kind: type[ApiError]) -> None:
    """An error that crosses processes keeps what it knows."""
    error = pickle.loads(pickle.dumps(kind("no", model="m", version=3, attempts=2)))
    assert (type(error), error.message, error.model, error.version, error.attempts) == (kind, "no", "m", 3, 2)


def test_a_token_from_a_file_ends_with_a_line() -> None:
    """Its blanks are not sent; what no header can carry is refused in our words, also when a function gives it."""
    call = StatusCall(spec=ModelSpec("m"), deadline=_deadline())
    assert RequestHeaders(Connection(bearer_token="abc\n")).of(call) == (("authorization", "Bearer abc"),)
    for wrong in ("", "a\nb", "ü"):
        with pytest.raises(InvalidArgument, match="bearer token"):
            RequestHeaders(Connection(bearer_token=wrong.__str__)).of(call)


@pytest.mark.parametrize("timeout", [float("inf"), 1e12, None])
def test_a_timeout_without_end(face: str, url: str, timeout: float | None) -> None:
    """Infinity and what is nearly as long mean no limit, which sockets and gRPC would refuse to count to."""
    with opened(face, url, timeout=timeout) as client:
        assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]


def test_the_address_of_a_copy() -> None:
    """What a client says of itself, a copy says too."""
    with Client("http://localhost:1") as client:
        copy = client.with_options(timeout=1)
        assert (copy.url, copy.transport, repr(copy)) == (client.url, "REST", repr(client))
        assert parse_address(copy.url).transport == "REST"

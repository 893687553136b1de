"""What travels beside a message: headers, tokens, gzip, and the proxies that it passes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.client.calling import KINDS, Listening, call
from tests.client.conftest import Behaviour
from tfbundle_client import InvalidArgument
from tfbundle_client.transports.connection import Connection, Tls


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"bad name": "x"}},
        {"headers": {"x": "a\r\nb: c"}},
        {"headers": {"Authorization": "x"}, "bearer_token": "t"},
        {"compression": "brotli"},
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    """Headers that would break the message, two credentials and unknown compressions are refused."""
    with pytest.raises(InvalidArgument):
        Connection(**options)


def test_secrets_do_not_show() -> None:
    """Neither a token nor a key stands in the text of the settings."""
    assert "hidden" not in repr(Connection(bearer_token="hidden", tls=Tls(cert=b"c", key=b"hidden")))


def _record(seen: list[bytes]) -> Behaviour:
    """Keep one request, head and body, and refuse it."""

    def behave(connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        seen.append(data)
        body = b'{"error": "no"}'
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return behave


@pytest.mark.parametrize("kind", KINDS)
def test_rest_headers_and_token(listening: Listening, kind: Any) -> None:
    """Headers and the token go with each request; a function is asked for the token anew."""
    seen: list[bytes] = []
    tokens = iter(["first", "second"])
    with listening(_record(seen)) as port:
        for _ in range(2):
            with pytest.raises(Exception, match="no"):
                call(kind, f"http://127.0.0.1:{port}", headers={"X-Team": "a"}, bearer_token=lambda: next(tokens))
    assert [b"authorization: bearer first" in data.lower() for data in seen] == [True, False]
    assert b"authorization: bearer second" in seen[1].lower()
    assert all(b"x-team: a\r\n" in data.lower() for data in seen)


class _Recorder(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Keeps the metadata of each RPC and refuses it with a trailer that says when to come back."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def service(self, _details: Any) -> Any:
        def refuse(_request: bytes, context: Any) -> bytes:
            self.seen.append(dict(context.invocation_metadata()))
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1500"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.fixture
def recorder() -> Iterator[tuple[_Recorder, str]]:
    """A gRPC server that keeps what metadata came."""
    from concurrent.futures import ThreadPoolExecutor

    handler = _Recorder()
    server = grpc.server(ThreadPoolExecutor(1), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handler, f"grpc://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_metadata_and_pushback(recorder: tuple[_Recorder, str], kind: Any) -> None:
    """Headers and the token arrive as metadata; the server's word on when to come back is on the error."""
    handler, url = recorder
    with pytest.raises(Exception, match="slow down") as caught:
        call(kind, url, headers={"X-Team": "a"}, bearer_token="t", compression="gzip", retry=None)
    assert handler.seen[0]["x-team"] == "a"
    assert handler.seen[0]["authorization"] == "Bearer t"
    assert caught.value.retry_after_s == 1.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_gzip(url: str, kind: Any) -> None:
    """Compressed requests are answered like others."""
    assert call(kind, url, compression="gzip") == [3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_proxies_of_the_environment(listening: Listening, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY is asked for the whole URL, unless NO_PROXY names the server."""
    seen: list[bytes] = []
    with listening(_record(seen)) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(Exception, match="no"):
            call(kind, "http://models.invalid:8501/x")
        assert seen[0].startswith(b"GET http://models.invalid:8501/x/v1/models/half_plus_two/metadata ")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(Exception, match="no"):
            call(kind, f"http://127.0.0.1:{port}")
        assert seen[1].startswith(b"GET /v1/models/half_plus_two/metadata ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_a_proxy(listening: Listening, kind: Any) -> None:
    """A proxy's 502 with a page of HTML is Unavailable, with the page's words and Retry-After."""
    page = b"<html><head><title>t</title></head><body><h1>502 Bad Gateway</h1></body></html>"

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        head = b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(page)
        connection.sendall(head + page)

    with listening(behave) as port, pytest.raises(Exception, match=r"HTTP 502 .*: 502 Bad Gateway$") as caught:
        call(kind, f"http://127.0.0.1:{port}", retry=None)
    assert type(caught.value).__name__ == "Unavailable"
    assert caught.value.retry_after_s == 7.0  # type: ignore[attr-defined]

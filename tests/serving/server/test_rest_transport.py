"""HTTP as clients of all sorts speak it, over bare sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import RunningServer
from tests.serving.server.in_process import serving

BODY = b'{"instances": [1.0]}'
ANSWER = b'{"predictions":[2.5]}'
POST = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\n"
SIZED = POST + b"Content-Length: %d\r\n" % len(BODY)


def talk(port: int, *parts: bytes) -> bytes:
    """Send a request that ends the connection, in parts, and give everything that comes back."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        while chunk := connection.recv(65536):
            received += chunk
    return received


CLOSE = b"Connection: close\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 30, len(SIZED + UPGRADE), len(SIZED + UPGRADE) + 4])
def test_who_asks_for_http2_is_answered_in_http1(server: RunningServer, cut: int) -> None:
    """Java's client asks so by default: its body counts, wherever TCP cuts it, and so does what follows."""
    whole = SIZED + UPGRADE + BODY + SIZED + CLOSE + BODY
    reply = talk(server.rest_port, whole[:cut], whole[cut:])
    assert reply.count(b"HTTP/1.1 200 OK") == reply.count(ANSWER) == 2
    assert b"101 " not in reply


def test_many_upgrades_at_once(server: RunningServer) -> None:
    """However many come in one piece, each is answered."""
    get = b"GET /v1/models/nope HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    reply = talk(server.rest_port, get * 1500 + SIZED + CLOSE + BODY)
    assert reply.count(b"HTTP/1.1 404 Not Found") == 1500
    assert reply.endswith(ANSWER)


def test_an_upgrade_that_closes(server: RunningServer) -> None:
    """`Connection: close` counts beside `Upgrade`."""
    reply = talk(server.rest_port, SIZED + UPGRADE.replace(b"Upgrade, ", b"close, Upgrade, ") + BODY)
    assert reply.count(ANSWER) == 1


def test_pipelined_requests(server: RunningServer) -> None:
    """They are answered in their order."""
    get = b"GET /v1/models/nope HTTP/1.1\r\nHost: x\r\n\r\n"
    reply = talk(server.rest_port, (SIZED + b"\r\n" + BODY + get) * 3 + SIZED + CLOSE + BODY)
    statuses = [line.split()[1] for line in reply.split(b"\r\n") if b"HTTP/1.1 " in line]
    assert reply.count(ANSWER) == 4
    assert len(statuses) == 7


def test_chunks_with_extensions_and_trailers(server: RunningServer) -> None:
    """A chunked body is put together, however it is cut."""
    chunks = b"5;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
    whole = POST + b"Transfer-Encoding: chunked\r\n" + CLOSE + chunks
    assert ANSWER in talk(server.rest_port, whole)
    assert ANSWER in talk(server.rest_port, *(whole[at : at + 7] for at in range(0, len(whole), 7)))


def test_expectations(server: RunningServer) -> None:
    """Who waits for leave to send gets it; who expects anything else is told so."""
    reply = talk(server.rest_port, SIZED + b"Expect: 100-continue\r\n" + CLOSE, BODY)
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert reply.endswith(ANSWER)
    assert talk(server.rest_port, SIZED + b"Expect: more\r\n\r\n" + BODY).startswith(b"HTTP/1.1 417 Expectation Failed")


def test_http_1_0(server: RunningServer) -> None:
    """It needs no Host, and closes unless it was asked not to, as `ab -k` asks."""
    get = b"GET /v1/models/half_plus_two HTTP/1.0\r\n"
    assert talk(server.rest_port, get + b"\r\n").startswith(b"HTTP/1.1 200 OK")
    reply = talk(server.rest_port, get + b"Connection: keep-alive\r\n\r\n", get + b"\r\n")
    assert reply.count(b"HTTP/1.1 200 OK") == 2
    assert b"connection: keep-alive\r\n" in reply


def test_head(server: RunningServer) -> None:
    """It is malformed, and its reply has the length of a body but no body."""
    reply = talk(server.rest_port, b"HEAD /v1/models/half_plus_two HTTP/1.1\r\nHost: x\r\n" + CLOSE)
    assert reply.startswith(b"HTTP/1.1 400 Bad Request")
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"nonsense\r\n\r\n", b"GET /v1/ x HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http(server: RunningServer, sent: bytes) -> None:
    """It gets a page, and the connection is closed."""
    reply = talk(server.rest_port, sent)
    assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"<H1>Bad Request</H1>" in reply


def test_nonsense_behind_a_request_under_way(server: RunningServer) -> None:
    """The connection ends with the page; the request before it has nowhere to go, and that is no fault of ours."""
    reply = talk(server.rest_port, (SIZED + b"\r\n" + BODY) * 2 + b"nonsense\r\n\r\n")
    assert b"HTTP/1.1 400 Bad Request\r\n" in reply
    assert ANSWER in talk(server.rest_port, SIZED + CLOSE + BODY)
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def open_to_pages(tiny_models: Path) -> Iterator[str]:
    """A server for web pages with keys and a small bound; a run may take no time at all. Gives its REST URL."""
    with serving(tiny_models, api_keys=("k",), cors=True, max_request_bytes=100, rest_timeout_s=1e-9) as server:
        yield f"http://127.0.0.1:{server.rest_port}"


@pytest.mark.parametrize(
    ("key", "body", "status", "reason"),
    [
        ({}, BODY, 401, "Unauthorized"),
        ({"X-API-Key": "k"}, BODY * 10, 413, "Request Entity Too Large"),
        ({"X-API-Key": "k"}, BODY, 504, "Gateway Time-out"),
    ],
)
def test_pages_may_read_refusals(
    open_to_pages: str, key: dict[str, str], body: bytes, status: int, reason: str
) -> None:
    """Each has the headers without which a browser keeps it from the page, and libevent's reason."""
    reply = requests.post(f"{open_to_pages}/v1/models/half_plus_two:predict", data=body, headers=key, timeout=30)
    assert (reply.status_code, reply.reason) == (status, reason)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Access-Control-Allow-Methods"] == "POST, GET"


def test_pages_may_send_keys(open_to_pages: str) -> None:
    """A browser asks beforehand, without a key, which headers it may send; outside /v1/ pages have no business."""
    ask = {"Origin": "https://a.example", "Access-Control-Request-Headers": "x-api-key"}
    reply = requests.options(f"{open_to_pages}/v1/models/m:predict", headers=ask, timeout=30)
    assert reply.headers["Access-Control-Allow-Headers"] == "Content-Type, Authorization, X-API-Key"
    outside = requests.get(f"{open_to_pages}/", headers={"X-API-Key": "k"}, timeout=30)
    assert "Access-Control-Allow-Origin" not in outside.headers

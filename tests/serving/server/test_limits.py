"""Bounds: of requests over both protocols, of what gzip inflates to, of headers; options of the gRPC server."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from tests.serving.server.in_process import REQUEST, channel_to, predict, refusal, serving
from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.server import rest_body
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.listening import allow_many_connections
from tfbundle_serving.server.rest_body import inflate
from tfbundle_serving.server.rest_protocol import MAX_HEAD_BYTES
from tfbundle_serving.server.settings import settings_from_flags

BOUND = 10_000
PATH = "/v1/models/half_plus_two:predict"


@pytest.fixture(scope="module")
def bounded(tiny_models: Path) -> Iterator[Server]:
    """A server with a small bound."""
    with serving(tiny_models, max_request_bytes=BOUND) as server:
        yield server


def body_of(size: int) -> bytes:
    """Write a predict body of a size."""
    head = b'{"instances": [2.0], "pad": "'
    return head + b"x" * (size - len(head) - 2) + b'"}'


def post(server: Server, body: Any, **options: Any) -> requests.Response:
    """Send a predict body."""
    return requests.post(f"http://127.0.0.1:{server.rest_port}{PATH}", data=body, timeout=30, **options)


def pieces(size: int) -> Iterator[bytes]:
    """Give a body piece by piece, so that its length is not said beforehand."""
    body = body_of(size)
    for at in range(0, size, 4096):
        yield body[at : at + 4096]


def test_rest_bodies(bounded: Server) -> None:
    """A body of the bound's size is answered; a longer one is refused with 413, its length said or not."""
    for make in (body_of, pieces):
        assert post(bounded, make(BOUND)).json() == {"predictions": [3.0]}
        for size in (BOUND + 1, 20_000_000):
            refused = post(bounded, make(size))
            assert refused.status_code == 413
            assert "--max_request_bytes" in refused.json()["error"]


def test_a_refusal_comes_before_the_body(bounded: Server) -> None:
    """A client that asks first is told without sending anything."""
    connection = http.client.HTTPConnection("127.0.0.1", bounded.rest_port, timeout=30)
    connection.putrequest("POST", PATH)
    connection.putheader("Content-Length", str(10**12))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_grpc_messages(bounded: Server) -> None:
    """So over gRPC, with RESOURCE_EXHAUSTED, compressed or not."""
    with channel_to(bounded) as channel:
        # Field 15 is none of the message's: it is read past.
        padded = REQUEST + b"\x7a\xe8\x07" + bytes(1000)
        assert predict(channel, padded) == [3.0]
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            assert predict(channel, padded, compression=compression) == [3.0]
            code, text = refusal(channel, bytes(BOUND + 1), compression=compression)
            assert code == "RESOURCE_EXHAUSTED"
            assert "larger than max" in text


def test_gzip_bombs_over_grpc(bounded: Server) -> None:
    """What inflates to more than the bound is refused without being inflated further."""
    with channel_to(bounded) as channel:
        code, text = refusal(channel, bytes(5_000_000), compression=grpc.Compression.Gzip)
    assert (code, text) == ("RESOURCE_EXHAUSTED", f"Received message larger than max ({BOUND + 1} vs. {BOUND})")


def test_options_of_the_grpc_server(tiny_models: Path) -> None:
    """--grpc_channel_arguments reach gRPC, and win over the bound."""
    options = settings_from_flags(parse(["/", "--grpc_channel_arguments=grpc.max_receive_message_length=40,a=b"]))
    assert options.grpc_options == (("grpc.max_receive_message_length", 40), ("a", "b"))
    with (
        serving(tiny_models, grpc_options=options.grpc_options, rest_port=None) as server,
        channel_to(server) as channel,
    ):
        assert refusal(channel, bytes(41))[0] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("value", ["0", "-1", "2147483648"])
def test_bounds_that_are_none(value: str) -> None:
    """A bound below a byte or above what protobuf can carry is refused at start."""
    with pytest.raises(InvalidArgument, match="--max_request_bytes must be from 1 to 2147483647"):
        settings_from_flags(parse(["/", f"--max_request_bytes={value}"]))


def test_gzip_bombs(server: Any) -> None:
    """What inflates to more than 100 MiB, or says so, or is broken, is the empty body, and soon."""
    bomb = gzip.compress(bytes(rest_body.MAX_INFLATED_BYTES + 1), 1)
    good = gzip.compress(body_of(1000))
    lying = good[:-4] + (1 << 31).to_bytes(4, "little")
    for body in (bomb, lying, good[:-1], b"", b"\x1f\x8b", good[10:]):
        url = f"{server.rest_url}{PATH}"
        refused = requests.post(url, data=body, headers={"Content-Encoding": "gzip"}, timeout=30)
        assert (refused.status_code, refused.json()["error"]) == (400, "JSON Parse error: The document is empty")
    assert inflate(good) == body_of(1000)


def test_a_bomb_that_lies_stops_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that inflates to more than its trailer says is inflated to the bound and no further."""
    monkeypatch.setattr(rest_body, "MAX_INFLATED_BYTES", 1000)
    assert inflate(gzip.compress(bytes(1000))) == bytes(1000)
    assert inflate(gzip.compress(bytes(1001))[:-4] + b"\x01\x00\x00\x00") == b""


def test_headers_without_end(bounded: Server) -> None:
    """Headers of a mebibyte end the connection; the page is that of what is no HTTP."""
    with socket.create_connection(("127.0.0.1", bounded.rest_port), timeout=30) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nA: ")
        try:
            for _ in range(2 * MAX_HEAD_BYTES // 4096):
                client.sendall(b"x" * 4096)
            answer = client.recv(4096)
        except ConnectionError:  # the server closed while there was more to read
            answer = b"HTTP/1.1 400"
    assert answer.startswith(b"HTTP/1.1 400")


def test_what_is_no_http(bounded: Server) -> None:
    """It gets libevent's page, and the connection is closed."""
    with socket.create_connection(("127.0.0.1", bounded.rest_port), timeout=30) as client:
        client.sendall(b"hello\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\n")
    assert b"<TITLE>400 Bad Request</TITLE>" in answer


def test_a_lowered_limit_of_files_is_raised() -> None:
    """A soft limit below the hard one is raised, so that 2,000 clients find room; once is enough."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(900, before[1]), before[1]))
    try:
        allow_many_connections()
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(4096, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_requests_after_all_that(bounded: Server) -> None:
    """The server still answers."""
    assert json.loads(post(bounded, b'{"instances": [2.0]}').content) == {"predictions": [3.0]}

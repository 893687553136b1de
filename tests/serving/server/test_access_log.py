"""The access log, and the API keys: what stands before every request where a flag asks for it."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from tests.serving.server.conftest import wait_for
from tests.serving.server.in_process import REQUEST, channel_to, predict, refusal, serving
from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.server import access_log
from tfbundle_serving.server.access_log import Access, AccessLog, Subject
from tfbundle_serving.server.api_key import read_api_keys

ACCESS = Access(
    protocol="rest",
    method="GET /\udcff",
    subject=Subject("m", 3),
    code=200,
    seconds=0.0012345,
    bytes_in=1,
    bytes_out=2,
    peer="p",
)


def test_every_request_is_a_line(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answered, refused, or of a client that has no key: one line of JSON each, with the version that answered."""
    with serving(tiny_models, access_log=True, api_keys=("k1", "k2")) as server:
        url = f"http://127.0.0.1:{server.rest_port}/v1/models"
        body = b'{"instances": [2.0]}'
        headers = {"X-API-Key": "k2"}
        predicted = requests.post(f"{url}/half_plus_two:predict", data=body, headers=headers, timeout=30)
        requests.get(f"{url}/nope?x=1", headers=headers, timeout=30)
        requests.get(f"{url}/half_plus_two", timeout=30)
        with channel_to(server) as channel:
            assert predict(channel, metadata=(("authorization", "Bearer k1"),)) == [3.0]
            refusal(channel, b"\xff", metadata=(("x-api-key", "k1"),))
            refusal(channel)
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = [(each["protocol"], each["method"], each["model"], each["version"], each["code"]) for each in lines]
    assert shown == [
        ("rest", "POST /v1/models/half_plus_two:predict", "half_plus_two", 123, 200),
        ("rest", "GET /v1/models/nope?x=1", "nope?x=1", None, 404),
        ("rest", "GET /v1/models/half_plus_two", "", None, 401),
        ("grpc", "Predict", "half_plus_two", 123, "OK"),
        ("grpc", "Predict", "", None, "INTERNAL"),
        ("grpc", "Predict", "", None, "UNAUTHENTICATED"),
    ]
    assert (lines[0]["bytes_in"], lines[0]["bytes_out"]) == (len(body), len(predicted.content))
    assert (lines[3]["bytes_in"], lines[3]["bytes_out"] > 20) == (len(REQUEST), True)
    assert all(each["peer"].startswith("127.0.0.1:") and 0 < each["ms"] < 30_000 for each in lines)
    assert all(each["time"].endswith("Z") for each in lines)


def test_a_line() -> None:
    """Times in UTC and milliseconds; what is no Unicode does not break the line."""
    assert json.loads(ACCESS.line(0.5)) == {
        "time": "1970-01-01T00:00:00.500Z",
        "protocol": "rest",
        "method": "GET /?",
        "model": "m",
        "version": 3,
        "code": 200,
        "ms": 1.234,
        "bytes_in": 1,
        "bytes_out": 2,
        "peer": "p",
    }


class Stuck(io.StringIO):
    """An output whose reader does not read until told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        """Wait, then write."""
        assert self.may_go_on.wait(60)
        return super().write(text)


def test_a_reader_that_stops_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait up to a bound; further ones are left out, and how many is said."""
    monkeypatch.setattr(access_log, "_MOST_WAITING", 100)
    out = Stuck()
    log = AccessLog(out)
    log.start()
    for _ in range(500):
        log.add(ACCESS)
    out.may_go_on.set()
    wait_for(lambda: "left_out" in out.getvalue() or log._waiting.empty(), "the lines")
    log.add(ACCESS)
    log.stop()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    written = [each for each in lines if "code" in each]
    assert len(written) + sum(each.get("left_out", 0) for each in lines) == 501
    assert 100 <= len(written) < 500


def test_an_output_that_fails_holds_nobody_up() -> None:
    """A closed pipe or a full disk costs the lines, not the server."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    log = AccessLog(Full())
    log.start()
    for _ in range(10):
        log.add(ACCESS)
    log.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "access-log"]


@pytest.mark.parametrize(
    ("name", "value", "is_let_in"),
    [
        ("X-API-Key", "k1", True),
        ("x-api-key", "k2", True),
        ("Authorization", "Bearer k1", True),
        ("Authorization", "bearer  k1 ", True),
        ("Authorization", "Basic k1", False),
        ("Authorization", "k1", False),
        ("X-API-Key", "k", False),
        ("X-API-Key", "", False),
        ("X-Other", "k1", False),
    ],
)
def test_keys(keyed: tuple[str, grpc.Channel], name: str, value: str, is_let_in: bool) -> None:
    """Either header, any of the keys, over both protocols; everybody else is told what is missing."""
    url, channel = keyed
    body = {"instances": [2.0]}
    reply = requests.post(f"{url}/v1/models/half_plus_two:predict", json=body, headers={name: value}, timeout=30)
    metadata = ((name.lower(), value),)
    if is_let_in:
        assert reply.json() == {"predictions": [3.0]}
        assert predict(channel, metadata=metadata) == [3.0]
        return
    assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    code, text = refusal(channel, metadata=metadata)
    assert (code, {"error": text}) == ("UNAUTHENTICATED", reply.json())


@pytest.fixture(scope="module")
def keyed(tiny_models: Path) -> Any:
    """A server with keys: its REST URL and a channel."""
    with (
        serving(tiny_models, api_keys=("k1", "k2"), health_service=True, cors=True) as server,
        channel_to(server) as channel,
    ):
        yield f"http://127.0.0.1:{server.rest_port}", channel


def test_a_wrong_key_is_told_from_none(keyed: tuple[str, grpc.Channel]) -> None:
    """Both are refused, over both protocols: one is told how to send a key, the other that its key is not known."""
    url, channel = keyed
    for headers, said in (({}, "needs an API key"), ({"X-API-Key": "k3"}, "does not know the API key that was sent")):
        reply = requests.get(f"{url}/v1/models", headers=headers, timeout=30)
        metadata = [(name.lower(), value) for name, value in headers.items()]
        code, text = refusal(channel, metadata=metadata)
        assert (reply.status_code, code) == (401, "UNAUTHENTICATED")
        assert said in text
        assert reply.json() == {"error": text}


def test_what_needs_no_key(keyed: tuple[str, grpc.Channel]) -> None:
    """Probes and browsers' preflight requests cannot carry one; everything else needs it, names of models above all."""
    url, channel = keyed
    assert requests.get(f"{url}/v1/health/ready", timeout=30).status_code == 200
    assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30) == b"\x08\x01"
    assert refusal(channel, b"", "/grpc.health.v1.Health/List")[0] == "UNAUTHENTICATED"
    preflight = requests.options(f"{url}/v1/models/m:predict", headers={"Origin": "http://a.b"}, timeout=30)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (200, "*")
    for path in ("/v1/models", "/", "/monitoring/prometheus/metrics"):
        assert requests.get(url + path, timeout=30).status_code == 401


def test_key_files(tmp_path: Path) -> None:
    """One key a line; a file that is missing or holds none that can be sent is refused at start."""
    path = tmp_path / "keys"
    path.write_text("# ours\n\nk1\n  k2  \n")
    assert read_api_keys(path) == ("k1", "k2")
    for text, message in {"": "holds no API key", "#k\n": "holds no API key", "é": "key 1", "a b": "key 1"}.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidArgument, match=message):
            read_api_keys(path)
    with pytest.raises(NotFound, match="nowhere"):
        read_api_keys(tmp_path / "nowhere")

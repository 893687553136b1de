"""REST, called with requests and with bare sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import RunningServer, running_server


def post(server: RunningServer, path: str, body: Any, **options: Any) -> requests.Response:
    """Send a body to a path below /v1/models/."""
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return requests.post(f"{server.rest_url}/v1/models/{path}", data=data, timeout=30, **options)


def raw(
    server: RunningServer, method: str, target: str, headers: dict[str, str] | None = None
) -> tuple[int, Any, bytes]:
    """Send a request line as it is; requests would tidy the path up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request(method, target, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        ("half_plus_two:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ("half_plus_two:predict", {"inputs": {"x": [1.0, 2.0]}}, {"outputs": [2.5, 3.0]}),
        ("half_plus_two/versions/123:predict", {"instances": [{"x": 1.0}]}, {"predictions": [2.5]}),
        ("half_plus_two:predict", {"inputs": []}, {"outputs": []}),
        (
            "two_inputs:predict",
            {"signature_name": "only_sum", "instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}]},
            {"predictions": [[2.0, 3.0, 4.0]]},
        ),
        (
            "two_inputs:predict",
            {"instances": [{"a": [1, 2, 3], "b": [1, 1, 1]}]},
            {"predictions": [{"sum": [2.0, 3.0, 4.0], "product": [14.0]}]},
        ),
        (
            "strings:predict",
            {"inputs": ["a", {"b64": "Yg=="}]},
            {"outputs": {"upper": ["A", "B"], "length": [1, 1], "raw_bytes": [{"b64": "YQ=="}, {"b64": "Yg=="}]}},
        ),
    ],
)
def test_predict(server: RunningServer, path: str, body: Any, reply: Any) -> None:
    """Rows and columns, one input and several, strings."""
    answer = post(server, path, body)
    assert (answer.status_code, answer.json()) == (200, reply)
    assert answer.headers["content-type"] == "application/json"


MODEL = "half_plus_two:predict"
REFUSED: dict[str, tuple[str, Any, int, str]] = {
    "unknown model": ("nope:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(nope)"),
    "unknown version": (
        "half_plus_two/versions/9:predict",
        {"instances": [1]},
        404,
        "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "unknown label": (
        "half_plus_two/labels/l:predict",
        {"instances": [1]},
        400,
        "Unrecognized servable version label: l",
    ),
    "unknown signature": (
        MODEL,
        {"signature_name": "s", "instances": [1]},
        400,
        'Serving signature name: "s" not found in signature def',
    ),
    "empty body": (MODEL, "", 400, "JSON Parse error: The document is empty"),
    "no JSON": (MODEL, "instances = [1]", 400, "JSON Parse error: Invalid value. at offset: 0"),
    "a bad body comes before an unknown model": (
        "nope:predict",
        "{",
        400,
        "JSON Parse error: Missing a name for object member. at offset: 1",
    ),
    "an unknown model comes before missing keys": (
        "nope:predict",
        {},
        404,
        "Servable not found for request: Latest(nope)",
    ),
    "an unknown signature comes before missing keys": (
        MODEL,
        {"signature_name": "s"},
        400,
        'Serving signature name: "s" not found in signature def',
    ),
    "neither key": (MODEL, {}, 400, "Missing 'inputs' or 'instances' key"),
    "signature without inputs": (
        MODEL,
        {"signature_name": "__saved_model_init_op", "instances": [1]},
        400,
        "Failed to get input map for signature: __saved_model_init_op",
    ),
    "classify without examples": (
        "half_plus_two:classify",
        {},
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(server: RunningServer, case: str) -> None:
    """Status and text are TensorFlow Serving's, and so is the order of the checks."""
    path, body, status, text = REFUSED[case]
    answer = post(server, path, body)
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    assert answer.headers["content-type"] == "application/json"


def test_the_graphs_text_is_not_cut(server: RunningServer) -> None:
    """A shape that the graph refuses is a 400 with TensorFlow's whole text."""
    answer = post(server, "two_inputs:predict", {"inputs": {"a": [[1, 2]], "b": [[1, 2]]}})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Matrix size-incompatible: In[0]: [1,2], In[1]: [3,1]\n\t [[{{node ")


def test_status_and_metadata(server: RunningServer) -> None:
    """The bodies of GET requests, numbers as strings as protobuf writes them."""
    status = requests.get(f"{server.rest_url}/v1/models/half_plus_two", timeout=30)
    assert status.json() == {
        "model_version_status": [
            {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    assert requests.get(f"{server.rest_url}/v1/models/half_plus_two/labels/any", timeout=30).json() == status.json()
    metadata = requests.get(f"{server.rest_url}/v1/models/half_plus_two/versions/123/metadata", timeout=30).json()
    assert metadata["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "123"}
    inputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs["x"]["dtype"] == "DT_FLOAT"
    assert inputs["x"]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_models_are_listed(server: RunningServer, tiny_models: Path) -> None:
    """TensorFlow Serving refuses this; the list has every model with its status."""
    listed = requests.get(f"{server.rest_url}/v1/models", timeout=30).json()["models"]
    assert [model["name"] for model in listed] == sorted(path.name for path in tiny_models.iterdir())
    assert all(model["model_version_status"][0]["state"] == "AVAILABLE" for model in listed)


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("GET /v1/models/nope", 404, "Could not find any versions of model nope"),
        ("GET /v1/models/half_plus_two/versions/5", 404, "Could not find version 5 of model half_plus_two"),
        ("GET /v1/models/half_plus_two?x=1", 404, "Could not find any versions of model half_plus_two?x=1"),
        ("GET /v1/models/half_plus_two?", 404, "Could not find any versions of model half_plus_two?"),
        ("GET /v1/models/half_plus_two#a", 404, "Could not find any versions of model half_plus_two#a"),
        ("GET http://other/v1/models/half_plus_two?a", 404, "Could not find any versions of model half_plus_two?a"),
        ("GET /v1/models/versions/5", 400, "Missing model name in request."),
        ("GET /v1/models/metadata", 404, "Could not find any versions of model metadata"),
        ("GET /v1/models/half_plus%5Ftwo/", 400, "Malformed request: GET /v1/models/half_plus%5Ftwo/"),
        ("POST /v1/models/m:predict?x=1", 400, "Malformed request: POST /v1/models/m:predict?x=1"),
        ("PUT /v1/models/m", 400, "Malformed request: PUT /v1/models/m"),
        ("GET /V1/other", 400, "Malformed request: GET /V1/other"),
    ],
)
def test_paths(server: RunningServer, line: str, status: int, error: str) -> None:
    """Path and query are matched together and undecoded."""
    method, target = line.split(" ")
    got, headers, body = raw(server, method, target)
    assert (got, json.loads(body)) == (status, {"error": error})
    assert headers["content-type"] == "application/json"


def test_encoded_names_are_decoded_after_the_match(server: RunningServer) -> None:
    """%5F in a name is an underscore."""
    assert raw(server, "GET", "/v1/models/half%5Fplus_two")[0] == 200


def test_a_version_past_int64_has_an_empty_body(server: RunningServer) -> None:
    """TensorFlow Serving forgets the text there."""
    status, _, body = raw(server, "GET", "/v1/models/half_plus_two/versions/99999999999999999999")
    assert (status, body) == (400, b"")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        *(("GET /", 404), ("GET /healthz", 404), ("GET /v2/x", 404), ("GET /v1", 404), ("POST /v1x/", 404)),
        *(("TRACE /v1/", 501), ("CONNECT h:443", 501), ("PROPFIND /v1/", 501), ("FETCH /v1/", 501), ("get /v1/", 501)),
        *(("GET /v1/models/m%zz", 400), ("GET /v1/models/%", 400), ("GET /v1/models/a{b}", 400), ("GET h:1:2", 400)),
    ],
)
def test_outside_the_api(server: RunningServer, line: str, status: int) -> None:
    """What is not below /v1/ gets libevent's HTML page."""
    method, target = line.split(" ")
    got, headers, body = raw(server, method, target)
    assert (got, headers["content-type"], headers["connection"]) == (status, "text/html", "close")
    assert f"<TITLE>{status} ".encode() in body
    assert headers["date"]


def test_other_expectations(server: RunningServer) -> None:
    """Only 100-continue can be expected."""
    assert raw(server, "GET", "/v1/models", {"Expect": "200-ok"})[0] == 417
    assert raw(server, "GET", "/v1/models", {"Expect": "100-continue"})[0] == 200


@pytest.mark.parametrize(("origin", "status"), [("https://a.example", 200), ("null", 400)])
def test_options(server: RunningServer, origin: str, status: int) -> None:
    """OPTIONS is answered before routing, for web pages only."""
    got, headers, body = raw(server, "OPTIONS", "/v1/anything", {"Origin": origin})
    assert (got, body) == (status, b"")
    assert "access-control-allow-origin" not in headers


def test_gzip(server: RunningServer) -> None:
    """A compressed body is inflated; one that only claims to be is the empty body."""
    packed = gzip.compress(b'{"instances": [1.0]}')
    headers = {"Content-Encoding": "gzip"}
    assert post(server, MODEL, packed, headers=headers).json() == {"predictions": [2.5]}
    for broken in (b'{"instances": [1.0]}', packed[:-9]):
        answer = post(server, MODEL, broken, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "JSON Parse error: The document is empty")


def test_a_chunked_body_and_a_form_content_type(server: RunningServer) -> None:
    """A body in chunks is put together, and the content type is not looked at."""

    def chunks() -> Iterator[bytes]:
        yield b'{"instances"'
        yield b": [1.0]}"

    answer = requests.post(f"{server.rest_url}/v1/models/{MODEL}", data=chunks(), timeout=30)
    assert answer.json() == {"predictions": [2.5]}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert post(server, MODEL, {"instances": [1.0]}, headers=form).json() == {"predictions": [2.5]}


def test_a_large_body(server: RunningServer) -> None:
    """Megabytes of JSON are read and written on the side; nothing is lost."""
    numbers = [float(number) for number in range(300_000)]
    reply = post(server, MODEL, {"instances": numbers}).json()
    assert reply["predictions"] == [number / 2 + 2 for number in numbers]


def test_a_client_that_leaves_mid_request(server: RunningServer) -> None:
    """Half a body and a closed connection harm nobody."""
    with socket.create_connection(("127.0.0.1", server.rest_port)) as connection:
        connection.sendall(b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    assert post(server, MODEL, {"instances": [1.0]}).status_code == 200


def test_flags(tiny_models: Path, tmp_path: Path) -> None:
    """The time limit ends slow runs with 504, CORS headers come on every reply, and metrics count what happened."""
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ("--rest_api_timeout_in_ms=300", "--rest_api_enable_cors_support", f"--monitoring_config_file={config}")
    with running_server(str(tiny_models), *flags) as server:
        answer = post(server, "counter:predict", {"instances": [2_000_000_000]})
        assert (answer.status_code, answer.json()) == (504, {"error": "Timed out waiting for notification"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert raw(server, "OPTIONS", "/v1/x", {"Origin": "http://a"})[1]["access-control-allow-methods"] == "POST, GET"
        assert post(server, MODEL, {"instances": [1.0]}).status_code == 200
        assert raw(server, "GET", "/v1/models/%ff")[0] == 404
        assert raw(server, "GET", "/v1/models/nope/metadata")[0] == 404
        assert raw(server, "PUT", "/v1/models/nope")[0] == 400
        status, headers, body = raw(server, "GET", "/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain")
        lines = body.decode().splitlines()
        assert ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"} 1' in lines
        assert ':tensorflow:serving:request_count{model_name="?",status="NOT_FOUND"} 1' in lines
        assert ':tensorflow:serving:request_count{model_name="nope",status="NOT_FOUND"} 1' in lines
        assert ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1' in lines
        assert ':tensorflow:serving:request_count{model_name="counter",status="DEADLINE_EXCEEDED"} 1' in lines
        labels = 'model_name="half_plus_two",API="predict",entrypoint="REST"'
        assert f":tensorflow:serving:request_latency_count{{{labels}}} 1" in lines
        assert raw(server, "POST", "/metrics")[0] == 200
        assert raw(server, "GET", "/metrics#x")[0] == 400
        assert raw(server, "GET", "/metrics?x=1")[::2] == (400, b"Unexpected path: /metrics?x=1. Should be /metrics")


def test_a_quick_model_that_turns_slow_stops_nobody(tiny_models: Path) -> None:
    """After many quick runs a long one with as small an input is ended by the time limit; others are answered."""
    with running_server(str(tiny_models), "--rest_api_timeout_in_ms=1500") as server, ThreadPoolExecutor(1) as pool:
        for _ in range(50):
            assert post(server, "counter:predict", {"inputs": [1]}).json() == {"outputs": 1}
        long = pool.submit(post, server, "counter:predict", {"inputs": [2_000_000_000]})
        answered = 0
        while not long.done():
            assert post(server, MODEL, {"instances": [1.0]}).status_code == 200
            answered += 1
        assert long.result().status_code == 504
        assert answered > 10

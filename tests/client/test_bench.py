"""`tfbundle bench` against servers: the shared one over both protocols, and one that stalls when it is told to."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.servers import RunningServer
from tfbundle_client.bench.inputs import draw_inputs
from tfbundle_client.bench.load import Load
from tfbundle_client.bench.measurement import Measurement
from tfbundle_client.bench.page import render_page
from tfbundle_client.bench.run import run_bench
from tfbundle_client.commands.bench import bench
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.connection import Connection
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import InvalidArgument, NotFound, SignatureMismatch
from tfbundle_serving.apis.model_metadata import ModelMetadata, encode_metadata_response
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictResponse, encode_predict_response
from tfbundle_serving.apis.signatures import Signature, TensorSpec


def _run(*arguments: str) -> int:
    """Run the command as the roof does."""
    result = bench.main(args=list(arguments), prog_name="tfbundle bench", standalone_mode=False)
    assert isinstance(result, int)
    return result


@dataclass
class StallingServer:
    """A gRPC server that answers one request after the other at once, but for one, which holds the others up.

    Attributes:
        stall_at: The number of the request that stalls.
        stall_s: For how long.
        fail_from: The number of the request from which on it answers RESOURCE_EXHAUSTED.
        seen: Requests so far.
        url: Its address.
    """

    stall_at: int = -1
    stall_s: float = 0.0
    fail_from: int = 1 << 40
    seen: int = 0
    url: str = ""
    many: threading.Event = field(default_factory=threading.Event)

    def predict(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen += 1
        if self.seen == self.stall_at:
            time.sleep(self.stall_s)
        if self.seen >= 40:
            self.many.set()
        if self.seen >= self.fail_from:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more room")
        y = np.ones(1, np.float32)
        return encode_predict_response(PredictResponse(ModelSpec("m", 1, None, "serving_default"), {"y": y}))

    def metadata(self, _: bytes, __: grpc.ServicerContext) -> bytes:
        spec = TensorSpec(dtypes.FLOAT, (None,))
        return encode_metadata_response(ModelMetadata("m", 1, {"serving_default": Signature({"x": spec}, {"y": spec})}))


@pytest.fixture
def stalling() -> Iterator[StallingServer]:
    """A server with one worker, so that one slow request is everybody's."""
    stub = StallingServer()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    methods = {
        name: grpc.unary_unary_rpc_method_handler(function)
        for name, function in {"Predict": stub.predict, "GetModelMetadata": stub.metadata}.items()
    }
    name = "tensorflow.serving.PredictionService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    stub.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield stub
    server.stop(0).wait()


def _measure(stub: StallingServer, load: Load) -> Measurement:
    result = run_bench(
        parse_address(stub.url), Connection(), ModelSpec("m"), load, lambda known, _: draw_inputs(known, 1, 0)
    )
    assert result.measurement is not None
    return result.measurement


def test_an_open_loop_sees_a_stall_that_a_closed_one_hides(stalling: StallingServer) -> None:
    """A stall of 0.4 s in a second of 200 requests/s is most of the p90; to a closed loop it is one slow request."""
    stalling.stall_at, stalling.stall_s = 60, 0.4
    stalled = _measure(stalling, Load(rate=200.0, duration_s=1.0, warm_up_s=0.1))
    assert stalled.requests == 200
    seen_s = stalled.percentile(90.0)
    assert seen_s is not None
    assert seen_s > 0.2
    stalling.seen = 0
    hidden = _measure(stalling, Load(concurrency=1, duration_s=1.0, warm_up_s=0.0))
    assert hidden.latencies.max_s > 0.35
    missed_s = hidden.percentile(90.0)
    assert missed_s is not None
    assert missed_s < 0.1


def test_failures_are_counted_by_their_status(stalling: StallingServer) -> None:
    """What the server refuses is an error with its code, not a fast answer, and no retry hides it."""
    stalling.fail_from = 40
    measurement = _measure(stalling, Load(rate=200.0, duration_s=0.5, warm_up_s=0.0))
    assert dict(measurement.errors) == {"RESOURCE_EXHAUSTED": 100 - measurement.latencies.count}
    assert measurement.latencies.count == 38  # one of the 39 went ahead
    assert stalling.seen == 101


def test_an_interrupt_shows_what_there_is(stalling: StallingServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the run at once, with the table of what was measured and the exit code of an interrupt."""

    def interrupt() -> None:
        assert stalling.many.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    begun_s = time.monotonic()
    code = _run(stalling.url, "m", "--rate=200", "--duration=60", "--warm-up=0")
    thread.join()
    assert code == 130
    assert time.monotonic() - begun_s < 20
    out = capsys.readouterr().out
    assert "achieved/s" in out
    assert "interrupted: " in out


def test_the_command_measures_a_real_server(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table, JSON and page tell of the same run, over either protocol."""
    page, file = tmp_path / "bench.html", tmp_path / "bench.json"
    arguments = ["--rate=100", "--duration=0.6", "--warm-up=0.1", "--rows=3", f"--html={page}", f"--json={file}"]
    assert _run(url, "half_plus_two", *arguments) == 0
    out = capsys.readouterr().out
    assert "half_plus_two version 123" in out
    assert "x float32 (3,)" in out
    assert "open loop, 100 requests/s, constant arrivals" in out
    assert "p99 is not given: it needs 100 requests, there were 60" in out
    document = json.loads(file.read_text())
    found = document["result"]
    assert (found["requests"], found["answered"], found["failed"]) == (60, 60, 0)
    assert found["warm_up"]["requests"] == 10
    assert found["latency_ms"]["p50"] > 0
    assert found["latency_ms"]["p99"] is None
    assert found["mean_ms"]["encode"] > 0
    assert found["mean_ms"]["decode"] > 0
    assert found["request_bytes"] > 10
    assert found["response_bytes"] > 10
    assert sum(count for _, count in found["histogram_ms"]) == 60
    assert document["machine"]["cores"] >= 1
    assert "numpy" in document["machine"]["versions"]
    _check_page(page.read_text())


def test_a_closed_loop_says_so(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The name stands in the output, with what it cannot see; --json without a file prints the document alone."""
    arguments = ["--concurrency=3", "--duration=0.3", "--warm-up=0", "--input=[1.0, 2.0]"]
    assert _run(server.grpc_url, "half_plus_two", *arguments) == 0
    out = capsys.readouterr().out
    assert "closed loop, 3 in flight" in out
    assert "no request is sent while the server stalls" in out
    assert _run(server.grpc_url, "half_plus_two", *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["load"]["kind"] == "closed loop"
    assert document["result"]["versions"] == {"123": document["result"]["answered"]}
    assert document["inputs"] == {"x": "float32 (2,)"}


def test_a_body_may_name_its_signature(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A recorded REST body is sent as it was recorded, over gRPC too."""
    body = {"signature_name": "only_sum", "inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}}
    arguments = ["--rate=50", "--duration=0.1", "--warm-up=0", f"--input={json.dumps(body)}", "--json"]
    assert _run(server.grpc_url, "two_inputs", *arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["signature"] == "only_sum"
    assert document["result"]["response_bytes"] > 0


def test_a_search_ends_with_a_rate(
    stalling: StallingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that refuses from some request on has a highest rate: the last one before."""
    stalling.fail_from = 500
    page = tmp_path / "sweep.html"
    code = _run(
        *(stalling.url, "m", "--sweep", "--p99-ms=2000", "--rate=800"),
        *("--duration=0.25", "--warm-up=0", "--json", f"--html={page}"),
    )
    captured = capsys.readouterr()
    found = json.loads(captured.out)["sweep"]
    assert code == 0
    assert found["highest_rate"] == 800
    assert found["lowest_failing_rate"] <= 840
    assert "% of the requests failed" in found["steps"][-1]["reason"]
    assert captured.err.count("/s: p99") == len(found["steps"])
    _check_page(page.read_text())


def test_a_page_of_a_run_without_answers_is_still_a_page(stalling: StallingServer) -> None:
    """Nothing to draw is no reason to fail."""
    stalling.fail_from = 2
    load = Load(rate=100.0, duration_s=0.1, warm_up_s=0.0)
    result = run_bench(
        parse_address(stalling.url), Connection(), ModelSpec("m"), load, lambda known, _: draw_inputs(known, 1, 0)
    )
    page = render_page(result)
    _check_page(page)
    assert "10 failed with RESOURCE_EXHAUSTED" in page


def test_what_cannot_succeed_fails_before_the_load(url: str) -> None:
    """No model, no signature, or inputs that do not fit are one error, not a thousand."""
    with pytest.raises(NotFound):
        _run(url, "no_such_model")
    with pytest.raises(SignatureMismatch, match="no signature 'other'"):
        _run(url, "half_plus_two", "--signature=other")
    with pytest.raises(InvalidArgument):
        _run(url, "half_plus_two", '--input=["a"]')


def test_another_machine_is_refused_before_anything_is_sent() -> None:
    """A load test is for this machine unless the person says otherwise."""
    with pytest.raises(InvalidArgument, match="--allow-remote"):
        _run("grpc://192.0.2.7:8500", "m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency=2", "--rate=3"], "closed loop"),
        (["--sweep"], "--p99-ms"),
        (["--p99-ms=3"], "--sweep"),
        (["--version=1", "--label=a"], "not both"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], message: str) -> None:
    """Misuse is told apart from failure."""
    import click

    with pytest.raises(click.UsageError, match=message):
        _run("grpc://127.0.0.1:1", "m", *arguments)


class _Balanced(HTMLParser):
    """Holds that every element is closed and nothing comes from elsewhere."""

    _VOID = ("meta", "line", "rect", "circle", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.seen.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self._VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _check_page(text: str) -> None:
    parser = _Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert "script" not in parser.seen
    assert "http://www." not in text
    assert "nan" not in text
    assert "inf" not in text.replace("info", "")

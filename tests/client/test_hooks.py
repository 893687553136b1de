"""What hooks and traces tell of the messages of a call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.faces import opened
from tests.servers import RunningServer
from tfbundle_client import ConnectionFailed, NotFound, RequestEvent, ResponseEvent, Retry


def test_events_of_a_call(face: str, url: str) -> None:
    """One event before and one after each message, the look-up of the signature included."""
    before: list[RequestEvent] = []
    after: list[ResponseEvent] = []
    with opened(face, url, on_request=before.append, on_response=after.append) as client:
        client.predict("half_plus_two", [1.0], version=123)
        transport = client.transport
        assert [(each.method, each.attempt, each.version) for each in before] == [
            ("GetModelMetadata", 1, 123),
            ("Predict", 1, 123),
        ]
        asked, answered = before[-1], after[-1]
        assert (asked.model, asked.transport, asked.address) == ("half_plus_two", transport, url)
        assert (answered.method, answered.error) == ("Predict", None)
        assert answered.request_bytes
        assert answered.response_bytes
        assert 0 < answered.encode_s + answered.decode_s < answered.seconds
        with pytest.raises(NotFound) as caught:
            client.status("nope")
        assert after[-1].error is caught.value


def test_each_attempt_has_its_events(face: str, free_port: int) -> None:
    """Attempts are numbered, and the error says how many there were."""
    after: list[ResponseEvent] = []
    for scheme in ("grpc", "http"):
        after.clear()
        with (
            opened(face, f"{scheme}://127.0.0.1:{free_port}", timeout=20, on_response=after.append) as client,
            pytest.raises(ConnectionFailed) as caught,
        ):
            client.status("m")
        assert [each.attempt for each in after] == [1, 2, 3]
        assert caught.value.attempts == 3
        assert all(isinstance(each.error, ConnectionFailed) for each in after)


def test_a_hook_that_raises_does_not_disturb(url: str, face: str, caplog: pytest.LogCaptureFixture) -> None:
    """The call is answered, and the failure of the hook logged."""

    def broken(_event: object) -> None:
        raise RuntimeError("hook")

    with (
        caplog.at_level(logging.ERROR, "tfbundle_client.calls.hooks"),
        opened(face, url, on_request=broken, on_response=broken) as client,
    ):
        assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]
    assert len(caplog.records) == 4


@pytest.fixture(scope="module")
def exporter() -> Iterator[Any]:
    """An OpenTelemetry exporter that keeps spans, behind the provider of the whole process."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    # A provider cannot be taken back, and one that is shut down complains of every span to come: this keeps none.
    exporter.shutdown()


def test_spans(exporter: Any, url: str, face: str, server: RunningServer) -> None:
    """Each message is a client span with the attributes of RPC, below the caller's span; failures say what failed."""
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, StatusCode

    exporter.clear()
    with opened(face, url, retry=Retry(attempts=1)) as client:
        if face == "sync":  # the asynchronous face calls from a thread that does not have the caller's context
            with trace.get_tracer("test").start_as_current_span("caller") as caller:
                client.predict("half_plus_two", [1.0], version=123)
            exported = exporter.get_finished_spans()
            assert {each.context.trace_id for each in exported} == {caller.get_span_context().trace_id}
        else:
            client.predict("half_plus_two", [1.0], version=123)
        with pytest.raises(NotFound):
            client.status("nope")
    spans = {each.name: each for each in exporter.get_finished_spans()}
    span = spans["tensorflow.serving.PredictionService/Predict"]
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc" if url.startswith("grpc") else "http",
        "rpc.method": "tensorflow.serving.PredictionService/Predict",
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": server.grpc_port if url.startswith("grpc") else server.rest_port,
        "tfbundle.model.name": "half_plus_two",
        "tfbundle.model.version": "123",
    }
    failed = spans["tensorflow.serving.ModelService/GetModelStatus"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == failed.attributes["rpc.response.status_code"] == "NOT_FOUND"


def test_the_server_is_told_of_the_span(exporter: Any, listening: Any) -> None:
    """Messages carry a traceparent that names their span."""
    seen: list[bytes] = []

    def answer(connection: Any) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    exporter.clear()
    with (
        listening(answer) as port,
        opened("sync", f"http://127.0.0.1:{port}", timeout=20) as client,
        pytest.raises(NotFound),
    ):
        client.status("m")
    (span,) = exporter.get_finished_spans()
    wanted = f"traceparent: 00-{span.context.trace_id:032x}-{span.context.span_id:016x}-"
    assert wanted.encode() in seen[0]

"""Health: grpc.health.v1, the pages over REST, and that both tell the truth."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import grpc
import pytest
import requests

from tests.serving.server.conftest import publish, wait_for
from tests.serving.server.in_process import channel_to, refusal, serving
from tfbundle_serving.apis.health import (
    ServingStatus,
    decode_health_list,
    decode_health_request,
    decode_health_response,
    encode_health_list,
    encode_health_request,
    encode_health_response,
)
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import LoadSettings

CHECK, WATCH, LIST = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch", "List"))


def check(channel: grpc.Channel, service: str = "") -> str:
    """Ask for the status of a service."""
    reply = channel.unary_unary(CHECK)(encode_health_request(service), timeout=30)
    return decode_health_response(reply).name


def ready(server: Server) -> tuple[int, dict[str, object]]:
    """Ask the readiness page."""
    reply = requests.get(f"http://127.0.0.1:{server.rest_port}/v1/health/ready", timeout=30)
    return reply.status_code, reply.json()


def test_messages() -> None:
    """The bytes are those of grpc/health/v1/health.proto."""
    assert encode_health_request("m") == b"\x0a\x01m"
    assert encode_health_request("") == encode_health_response(ServingStatus.UNKNOWN) == b""
    assert encode_health_response(ServingStatus.SERVING) == b"\x08\x01"
    assert decode_health_request(b"\x0a\x01m\x18\x07") == "m"
    assert decode_health_response(b"\x08\x02") is ServingStatus.NOT_SERVING
    assert decode_health_response(b"\x08\x63") is ServingStatus.UNKNOWN
    listed = {"": ServingStatus.SERVING, "m": ServingStatus.UNKNOWN}
    assert encode_health_list(listed) == b"\x0a\x06\x0a\x00\x12\x02\x08\x01\x0a\x05\x0a\x01m\x12\x00"
    assert decode_health_list(encode_health_list(listed)) == listed


def test_the_truth(tiny_models: Path, tmp_path: Path) -> None:
    """A model that cannot be loaded shows, for itself and for the whole, until it is taken away; others go on."""
    models = tmp_path / "models"
    publish(tiny_models / "half_plus_two/123", models / "good", 1)
    options = {"models": (), "models_dir": models, "poll_interval_s": 0.05, "health_service": True}
    with serving(tiny_models, **options, loading=LoadSettings(max_retries=0)) as server:
        assert ready(server) == (200, {"status": "SERVING", "models": {"good": "SERVING"}})
        with channel_to(server) as channel:
            listed = decode_health_list(channel.unary_unary(LIST)(b"", timeout=30))
            assert listed == {"": ServingStatus.SERVING, "good": ServingStatus.SERVING}
            assert {check(channel, name) for name in ("", "good", "ModelService", "PredictionService")} == {"SERVING"}
            assert refusal(channel, encode_health_request("bad"), CHECK)[0] == "NOT_FOUND"

            (models / "bad/1").mkdir(parents=True)
            (models / "bad/1/saved_model.pb").write_bytes(b"\xff")
            wait_for(lambda: ready(server)[0] == 503, "the broken model")
            assert ready(server)[1] == {"status": "NOT_SERVING", "models": {"bad": "NOT_SERVING", "good": "SERVING"}}
            assert [check(channel, name) for name in ("", "good", "bad")] == ["NOT_SERVING", "SERVING", "NOT_SERVING"]

            shutil.rmtree(models / "bad")
            wait_for(lambda: ready(server)[0] == 200, "the broken model to be forgotten")
            assert [check(channel, name) for name in ("", "bad")] == ["SERVING", "NOT_SERVING"]


def test_watching(tiny_models: Path, tmp_path: Path) -> None:
    """Who watches a model is told when it comes, when it goes and when the server stops, which waits for no watcher."""
    models = tmp_path / "models"
    publish(tiny_models / "half_plus_two/123", models / "good", 1)
    options = {"models": (), "models_dir": models, "poll_interval_s": 0.05, "health_service": True}
    told: list[str] = []
    with serving(tiny_models, **options) as server:
        channel = channel_to(server)
        stream = channel.unary_stream(WATCH)(encode_health_request("late"), timeout=60)
        reader = threading.Thread(target=lambda: told.extend(decode_health_response(each).name for each in stream))
        reader.start()
        wait_for(lambda: told == ["SERVICE_UNKNOWN"], "the first status")
        publish(tiny_models / "half_plus_two/123", models / "late", 1)
        wait_for(lambda: told[-1] == "SERVING", "the model")
        shutil.rmtree(models / "late")
        wait_for(lambda: told[-1] == "NOT_SERVING", "its end")
        publish(tiny_models / "half_plus_two/123", models / "late", 2)
        wait_for(lambda: told[-1] == "SERVING", "its return")
        begun = time.monotonic()
        server.stop(30.0)
        took_s = time.monotonic() - begun
    reader.join()
    channel.close()
    assert told[-1] == "NOT_SERVING"
    assert took_s < 10


def test_the_service_is_there_by_flag_only(tiny_models: Path) -> None:
    """Without its flag grpc.health.v1 is UNIMPLEMENTED; the pages are always there, for GET and HEAD."""
    with serving(tiny_models) as server, channel_to(server) as channel:
        assert refusal(channel, b"", CHECK)[0] == "UNIMPLEMENTED"
        url = f"http://127.0.0.1:{server.rest_port}/v1/health"
        assert requests.get(f"{url}/live", timeout=30).json() == {"status": "SERVING"}
        assert requests.head(f"{url}/ready", timeout=30).status_code == 200
        malformed = requests.post(f"{url}/ready", timeout=30)
        assert (malformed.status_code, malformed.json()) == (
            400,
            {"error": "Malformed request: POST /v1/health/ready"},
        )


def test_bytes_that_are_no_request(tiny_models: Path) -> None:
    """Both methods answer INTERNAL, as a C++ server does."""
    with serving(tiny_models, health_service=True) as server, channel_to(server) as channel:
        assert refusal(channel, b"\xff", CHECK)[0] == "INTERNAL"
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream(WATCH)(b"\xff", timeout=30))
        assert caught.value.code() is grpc.StatusCode.INTERNAL

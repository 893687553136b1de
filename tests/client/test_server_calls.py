"""Health, and another list of models: both clients, both transports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.faces import opened
from tests.servers import RunningServer, running_server
from tfbundle_client import Client, DeadlineExceeded, InvalidArgument, NotFound, Unimplemented
from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.grpc_messages import read_failure
from tfbundle_client.transports.transport import HealthCall
from tfbundle_serving.apis.model_spec import ModelSpec


@pytest.fixture(scope="module")
def reloading(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server with a config file, that has health checks and takes another config."""
    config = tmp_path_factory.mktemp("reload") / "models.config"
    config.write_text(_config(tiny_models, "half_plus_two"))
    with running_server(f"--model_config_file={config}", "--enable_grpc_healthcheck_service=true") as server:
        yield server, tiny_models


def _config(models: Path, *names: str) -> str:
    listed = (
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" }}' for name in names
    )
    return f"model_config_list {{ {' '.join(listed)} }}"


def test_health(reloading: tuple[RunningServer, Path], face: str) -> None:
    """The server as a whole and each of its models can be asked, over gRPC and REST."""
    server, _ = reloading
    for url in (server.grpc_url, server.rest_url):
        with opened(face, url, timeout=30) as client:
            client.wait_until_available("half_plus_two")
            assert client.health() is True
            assert client.health("half_plus_two") is True
            with pytest.raises(NotFound):
                client.health("nope")
            if url == server.grpc_url:
                assert client.health_list() == {"": True, "half_plus_two": True}
            else:
                with pytest.raises(Unimplemented, match="REST"):
                    client.health_list()


def test_a_model_can_be_asked_where_health_checks_are_missing(official_server: str, face: str) -> None:
    """A server without the health service, as TensorFlow Serving is by default, still tells of its models."""
    with opened(face, official_server, timeout=30) as client:
        assert client.health("identities") is True
        with pytest.raises(Unimplemented, match="start it with --enable_grpc_healthcheck_service, or ask for a model"):
            client.health()
        with pytest.raises(Unimplemented):
            client.health_list()


def test_a_status_without_words_has_its_name() -> None:
    """A server that says nothing but a status, as tensorflow_model_server does of unknown RPCs, is named with it."""
    call = HealthCall(spec=ModelSpec(""), deadline=Deadline.after(1.0))
    error = read_failure(12, "", call, parse_address("grpc://h:1").endpoints[0])
    assert str(error) == "health: grpc://h:1 answered UNIMPLEMENTED and says no more"


def test_reload(reloading: tuple[RunningServer, Path], face: str) -> None:
    """Another list of models holds from the answer on, and what the client knew of the old one is forgotten."""
    server, models = reloading
    with opened(face, server.grpc_url, timeout=60) as client:
        client.reload_config(_config(models, "two_inputs"))
        assert client.health("two_inputs") is True
        with pytest.raises(NotFound):
            client.predict("half_plus_two", [1.0])
        one = {"name": "half_plus_two", "base_path": str(models / "half_plus_two"), "model_platform": "tensorflow"}
        client.reload_config({"model_config_list": {"config": [one]}})
        assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]


def test_waiting_for_a_label(reloading: tuple[RunningServer, Path], face: str) -> None:
    """A label is waited for until it points at a version that answers; its status is that version's."""
    server, models = reloading
    for url in (server.grpc_url, server.rest_url):
        with opened(face, url, timeout=30) as client, opened("sync", server.grpc_url, timeout=60) as other:
            other.reload_config(_config(models, "half_plus_two"))
            with pytest.raises(DeadlineExceeded, match="canary") as caught:
                client.wait_until_available("half_plus_two", label="canary", timeout=0.2)
            assert caught.value.version == "canary"
            with pytest.raises(InvalidArgument, match="canary"):
                client.status("half_plus_two", label="canary")
            labelled = 'model_platform: "tensorflow" version_labels { key: "canary" value: 123 }'
            config = _config(models, "half_plus_two").replace('model_platform: "tensorflow"', labelled)
            timer = threading.Timer(0.1, other.reload_config, (config,))
            timer.start()
            assert client.wait_until_available("half_plus_two", label="canary").version == 123
            timer.join()
            assert [each.version for each in client.status("half_plus_two", label="canary")] == [123]


def test_reload_refusals(reloading: tuple[RunningServer, Path], face: str) -> None:
    """A config that is none is refused here, one that the server refuses there; REST has no reload."""
    server, models = reloading
    with opened(face, server.grpc_url, timeout=30) as client:
        with pytest.raises(InvalidArgument, match="models config: ModelServerConfig has no field 'models'") as caught:
            client.reload_config({"models": []})
        assert caught.value.attempts == 0
        with pytest.raises(InvalidArgument, match="absolute path") as caught:
            client.reload_config(_config(Path("relative"), "half_plus_two"))
        assert caught.value.attempts == 1
    with opened(face, server.rest_url, timeout=30) as client:
        with pytest.raises(Unimplemented) as refused:
            client.reload_config(_config(models, "half_plus_two"))
        assert refused.value.attempts == 0


def test_methods_look_like_what_they_are() -> None:
    """Both clients have the same methods with the same arguments and docstrings, and results as Python shows them."""
    import inspect

    from tfbundle_client import AsyncClient

    names = [name for name in vars(Client) if not name.startswith("_") and name != "close"]
    assert "predict" in names
    for name in names:
        ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
        assert ours.__doc__ == theirs.__doc__
        assert "Flow" not in str(inspect.signature(ours))
    assert str(inspect.signature(Client.predict)).endswith("-> 'Prediction'")

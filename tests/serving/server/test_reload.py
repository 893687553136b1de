"""Other models for a running server: by request, judged by TensorFlow Serving's own stubs, and by a polled file."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from tests.serving.server.conftest import PATIENCE_S, publish, wait_for
from tfbundle_client import Client
from tfbundle_serving.apis.errors import ApiError
from tfbundle_serving.config.models import ModelConfig, read_models
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import LoadSettings, ServerSettings

X = np.array([2.0], np.float32)
CALL, MSC, TF = "HandleReloadConfigRequest", "ModelServerConfig", "tensorflow"


class Served:
    """A server in this process and a stub that reloads it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self.stub = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def reload(self, config: str, *metrics: str) -> Any:
        """Ask for the models of a config in text form."""
        request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
        text_format.Parse(config, request.config)
        return self.stub.HandleReloadConfigRequest(request, timeout=PATIENCE_S)

    def refuse(self, config: str) -> tuple[grpc.StatusCode, str]:
        """Ask for what is refused; give code and text."""
        with pytest.raises(grpc.RpcError) as caught:
            self.reload(config)
        return caught.value.code(), caught.value.details()

    def states(self, model: str) -> dict[int, str]:
        """Give the states of a model's versions."""
        return {each.version: each.state.name for each in self.server.models().get(model, [])}

    def client(self) -> Client:
        """Make a client."""
        return Client(f"grpc://127.0.0.1:{self.server.grpc_port}")


@contextmanager
def _serve(*models: ModelConfig, **more: Any) -> Iterator[Served]:
    server = Server(ServerSettings(models=models, loading=LoadSettings(max_retries=0), **more))
    server.start()
    served = Served(server)
    try:
        yield served
    finally:
        served.channel.close()
        server.stop()


@pytest.fixture
def base(tmp_path: Path, tiny_models: Path, half_plus_ten: Path) -> Path:
    """A base path with version 1, which answers 3 for 2, and version 2, which answers 11."""
    publish(tiny_models / "half_plus_two/123", tmp_path / "m", 1)
    publish(half_plus_ten, tmp_path / "m", 2)
    return tmp_path / "m"


def entry(name: str, base: Path, more: str = "") -> str:
    """Write one model of a config."""
    return f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {more} }} '


def listed(*entries: str) -> str:
    """Write a config."""
    return f"model_config_list {{ {''.join(entries)} }}"


def test_models_come_and_go(base: Path, tmp_path: Path) -> None:
    """The list replaces the one before: new models answer when the call returns, absent ones are unloaded."""
    count = "/tensorflow/serving/request_count"
    with _serve(ModelConfig(name="m", base_path=str(base))) as served, served.client() as client:
        reply = served.reload(listed(entry("m", base), entry("n", base)), count, "/no/such")
        assert reply.status.error_code == 0
        assert [(each.name, each.int64_value_increase) for each in reply.metric] == [(count, 0), ("/no/such", 0)]
        assert client.predict("n", X)["y"].tolist() == [11.0]
        served.reload(listed(entry("n", base)))
        wait_for(lambda: served.states("m") == {2: "END"}, "m to go")
        served.reload("model_config_list {}")
        wait_for(lambda: served.states("n") == {2: "END"}, "n to go")
        served.reload(listed(entry("m", base)))
        assert client.predict("m", X)["y"].tolist() == [11.0]
        # A model whose base path is missing holds up neither this call nor the next.
        served.reload(listed(entry("m", base), entry("later", tmp_path / "later")))
        publish(base / "1", tmp_path / "later", 1)
        wait_for(lambda: served.states("later") == {1: "AVAILABLE"}, "the late model")


def test_a_server_that_looks_once_takes_new_models(base: Path) -> None:
    """TensorFlow Serving waits forever there."""
    with _serve(ModelConfig(name="m", base_path=str(base)), poll_interval_s=0.0) as served, served.client() as client:
        served.reload(listed(entry("n", base, "model_version_policy { all {} }")))
        assert client.predict("n", X)["y"].tolist() in ([3.0], [11.0])
        wait_for(lambda: served.states("n") == {1: "AVAILABLE", 2: "AVAILABLE"}, "all versions")


def test_what_is_refused(base: Path, tmp_path: Path) -> None:
    """Codes and texts are TensorFlow Serving's, and what was served before is served still."""
    (tmp_path / "broken/3").mkdir(parents=True)
    unsupported = (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"ServerModelConfig type not supported by {CALL}. Only ModelConfigList is currently supported",
    )
    invalid, failed = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    other = f'config {{ name: "NAME" base_path: "{base}" model_platform: "caffe" }}'
    refused = {
        "": unsupported,
        "custom_model_config {}": unsupported,
        listed(entry("m", base), entry("m", base)): (invalid, "Illegal to list model m multiple times in config list"),
        listed(entry("m", Path("here"))): (
            invalid,
            "Expected model m to have an absolute path or URI; got base_path()=here",
        ),
        listed(other.replace("NAME", "m")): (
            invalid,
            f"Illegal to change a model's platform. For model m platform was {TF} and new platform requested is caffe",
        ),
        listed(other.replace("NAME", "n")): (invalid, "Model n requests unsupported platform caffe"),
        listed(f'config {{ name: "n" base_path: "{base}" }}'): (
            invalid,
            f"Illegal setting neither {MSC}::model_type (deprecated) nor {MSC}::model_platform, model name is n",
        ),
        listed(entry("m", base, "logging_config {}")): (invalid, "No request-logger-creator provided."),
        listed(entry("m", base, 'version_labels { key: "a" value: 9 }')): (
            failed,
            "Request to assign label to version 9 of model m, which is not currently available for inference",
        ),
    }
    with _serve(ModelConfig(name="m", base_path=str(base))) as served, served.client() as client:
        for config, told in refused.items():
            assert served.refuse(config) == told
        code, text = served.refuse(listed(entry("m", base), entry("bad", tmp_path / "broken")))
        assert code is grpc.StatusCode.UNKNOWN
        assert text.startswith("1 model(s) did not become available: {{name: bad version: 3} due to error: NOT_FOUND: ")
        assert text.endswith("}, }")
        assert client.predict("m", X)["y"].tolist() == [11.0]


def test_a_models_directory_is_not_replaced(base: Path) -> None:
    """Its models are its folders; a list cannot stand beside that."""
    with _serve(models_dir=base.parent) as served:
        code, text = served.refuse(listed(entry("n", base)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert text.startswith("Cannot transition to requested config. It is only legal to transition from one ModelConfig")


@contextmanager
def _calling(*calls: Callable[[], float]) -> Iterator[None]:
    """Call again and again while the block runs; every call must succeed, with one of the two answers."""
    stop = threading.Event()

    def run(call: Callable[[], float]) -> None:
        while not stop.is_set():
            assert call() in (3.0, 11.0)

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(run, call) for call in calls]
        try:
            yield
        finally:
            stop.set()
        for each in running:
            each.result()


def test_a_label_moves_with_its_version_and_no_request_is_lost(base: Path) -> None:
    """Policy, versions and label change back and forth in one call each, under load: no request finds nothing."""

    def at(version: int) -> str:
        policy = f"model_version_policy {{ specific {{ versions: {version} }} }}"
        return listed(entry("m", base, f'{policy} version_labels {{ key: "stable" value: {version} }}'))

    with _serve() as served, served.client() as client:
        served.reload(at(1))
        calls = (
            lambda: float(client.predict("m", X, label="stable")["y"][0]),
            lambda: float(client.predict("m", X)["y"][0]),
        )
        with _calling(*calls):
            for version in (2, 1, 2, 1):
                served.reload(at(version))
                assert client.predict("m", X, label="stable").version == version
        wait_for(lambda: served.states("m") == {1: "AVAILABLE", 2: "END"}, "version 2 to go")


def test_a_label_whose_version_cannot_be_loaded_stays(base: Path) -> None:
    """It answers as before, the caller is told, and a later list may set it."""
    (base / "3").mkdir()
    all_of_them = "model_version_policy { all {} } version_labels "
    with _serve() as served, served.client() as client:
        served.reload(listed(entry("m", base, "model_version_policy { specific { versions: 1 versions: 2 } }")))
        served.reload(listed(entry("m", base, all_of_them + '{ key: "stable" value: 1 }')))
        code, text = served.refuse(listed(entry("m", base, all_of_them + '{ key: "stable" value: 3 }')))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert text.startswith("Request to assign label to version 3 of model m, which is not")
        assert client.predict("m", X, label="stable").version == 1
        served.reload(listed(entry("m", base, all_of_them + '{ key: "stable" value: 2 }')))
        assert client.predict("m", X, label="stable").version == 2
        served.reload(listed(entry("m", base)))
        with pytest.raises(ApiError, match="Unrecognized servable version label: stable"):
            client.predict("m", X, label="stable")


def test_labels_for_versions_that_are_not_there(base: Path) -> None:
    """With the flag a new label may point anywhere, but one that exists may not leave its version for nothing."""

    def at(version: int) -> str:
        return listed(entry("m", base, f'version_labels {{ key: "canary" value: {version} }}'))

    with _serve(unavailable_labels=True) as served, served.client() as client:
        served.reload(at(9))
        with pytest.raises(ApiError, match=r"Servable not found for request: Specific\(m, 9\)"):
            client.predict("m", X, label="canary")
        served.reload(at(9))
        served.reload(at(2))
        assert client.predict("m", X, label="canary").version == 2
        assert served.refuse(at(9))[0] is grpc.StatusCode.FAILED_PRECONDITION
        assert client.predict("m", X, label="canary").version == 2


def test_a_polled_config(base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is read again at intervals; while it is bad or gone the models stay, and the log says so once."""
    config = tmp_path / "models.config"

    def write(text: str) -> None:
        staging = tmp_path / "staging"
        staging.write_text(text)
        staging.replace(config)

    write(listed(entry("m", base)))
    polled = {"config_file": config, "config_poll_interval_s": 0.05}
    with _serve(*read_models(config), **polled) as served, served.client() as client:
        write(listed(entry("m", base), entry("n", base, 'version_labels { key: "stable" value: 2 }')))
        wait_for(lambda: served.states("n") == {2: "AVAILABLE"}, "n")
        wait_for(lambda: "stable" in served.server._manager.labels("n"), "the label")
        write("no config")
        wait_for(lambda: "Invalid protobuf file" in caplog.text, "the complaint")
        config.unlink()
        wait_for(lambda: "No such file" in caplog.text, "the other complaint")
        assert client.predict("n", X, label="stable")["y"].tolist() == [11.0]
        assert caplog.text.count("Invalid protobuf file") == 1
        write(listed(entry("n", base)))
        wait_for(lambda: served.states("m") == {2: "END"}, "m to go")


def test_a_reload_ends_with_the_server(base: Path, tmp_path: Path) -> None:
    """One that waits for a version that is tried again and again does not keep the server from stopping."""
    (tmp_path / "broken/1").mkdir(parents=True)
    loading = LoadSettings(max_retries=100, retry_interval_s=3600.0)
    server = Server(ServerSettings(models=(ModelConfig(name="m", base_path=str(base)),), loading=loading))
    server.start()
    served = Served(server)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(served.refuse, listed(entry("bad", tmp_path / "broken")))
        wait_for(lambda: served.states("bad") == {1: "LOADING"}, "the reload to wait")
        server.stop(1.0)
        assert call.result()[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    served.channel.close()


def test_a_version_that_fails_does_not_take_the_last_one_away(base: Path) -> None:
    """The policy asks for a broken version alone: the old one answers on."""
    with _serve(ModelConfig(name="m", base_path=str(base)), poll_interval_s=0.1) as served, served.client() as client:
        served.reload(listed(entry("m", base, "model_version_policy { specific { versions: 2 } }")))
        (base / "7").mkdir()
        served.reload(listed(entry("m", base, "model_version_policy { specific { versions: 7 } }")))
        wait_for(lambda: served.states("m").get(7) == "END", "version 7 to fail")
        assert client.predict("m", X).version == 2
        shutil.copytree(base / "1", base / "7", dirs_exist_ok=True)
        wait_for(lambda: served.states("m") == {2: "END", 7: "AVAILABLE"}, "version 7")

"""The server as a whole: what it takes to start, how it stops, versions that come and go under load."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.models import save_slow
from tests.servers import RunningServer, running_server, start_server, stop_server
from tests.serving.server.conftest import PATIENCE_S, publish, wait_for
from tests.serving.server.in_process import serving
from tfbundle_client import Client
from tfbundle_serving.apis.errors import FailedPrecondition, Unknown
from tfbundle_serving.apis.version_policy import Specific
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import LoadSettings, ServerSettings

X = np.array([2.0], np.float32)


def states(server: RunningServer, model: str) -> dict[int, str]:
    """Give the states of a model's versions, over REST."""
    reply = requests.get(f"{server.rest_url}/v1/models/{model}", timeout=30).json()
    return {int(each["version"]): each["state"] for each in reply.get("model_version_status", [])}


def test_versions_come_and_go_under_load(tiny_models: Path, tmp_path: Path, half_plus_ten: Path) -> None:
    """Versions are added, half-written, corrupted and removed while requests flow over both transports: none fails."""
    base = tmp_path / "models/m"
    publish(tiny_models / "half_plus_two/123", base, 1)
    with running_server(str(tmp_path / "models")) as server:
        stop = threading.Event()

        def call(url: str) -> dict[int, set[float]]:
            answers: dict[int, set[float]] = {}
            with Client(url) as client:
                while not stop.is_set():
                    reply = client.predict("m", X)
                    answers.setdefault(reply.version, set()).add(float(reply["y"][0]))
            return answers

        with ThreadPoolExecutor(4) as pool:
            callers = [pool.submit(call, url) for url in (server.grpc_url, server.rest_url) * 2]
            try:
                publish(half_plus_ten, base, 2)
                wait_for(lambda: states(server, "m") == {1: "END", 2: "AVAILABLE"}, "version 2")
                (base / "3/variables").mkdir(parents=True)
                wait_for(lambda: states(server, "m").get(3) == "LOADING", "version 3 to be tried")
                assert states(server, "m")[2] == "AVAILABLE"
                publish(tiny_models / "half_plus_two/123", base, 4)
                wait_for(lambda: states(server, "m").get(4) == "AVAILABLE", "version 4")
                wait_for(lambda: states(server, "m")[2] == "END", "version 2 to go")
                shutil.rmtree(base / "4")
                shutil.rmtree(base / "3")
                wait_for(lambda: states(server, "m")[2] == "AVAILABLE", "version 2 to come back")
            finally:
                stop.set()
            for caller in callers:
                answers = caller.result()
                assert answers == {version: {11.0 if version == 2 else 3.0} for version in answers}
        assert stop_server(server) == 0


def test_new_models_are_picked_up(tiny_models: Path, tmp_path: Path) -> None:
    """A model folder that appears in the models directory is served without a restart."""
    publish(tiny_models / "half_plus_two/123", tmp_path / "a", 1)
    with running_server(str(tmp_path)) as server:
        publish(tiny_models / "half_plus_two/123", tmp_path / "b", 7)
        wait_for(lambda: states(server, "b") == {7: "AVAILABLE"}, "model b")


def test_sigterm_drains(tmp_path: Path) -> None:
    """A request under way is answered, a new one is refused, the process ends with 0."""
    save_slow(tmp_path / "slow/1", rounds=1500)
    server = start_server(str(tmp_path), folder=tmp_path / "run")
    idle_s = _cpu_s(server)
    with ThreadPoolExecutor(2) as pool:
        clients = [Client(server.grpc_url), Client(server.rest_url)]
        calls = [pool.submit(client.predict, "slow", X, timeout=60) for client in clients]
        wait_for(lambda: _cpu_s(server) > idle_s + 0.5, "both requests to run")
        assert not any(call.done() for call in calls)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _accepts(server.rest_url), "new requests to be refused")
        assert server.process.poll() is None
        for call in calls:
            assert call.result()["y"].tolist() == [2.0]
        for client in clients:
            client.close()
    assert server.process.wait(30) == 0


def _cpu_s(server: RunningServer) -> float:
    """Read the CPU time that a server has used; a run of the slow model shows in it."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _accepts(url: str) -> bool:
    try:
        requests.get(f"{url}/v1/models", timeout=30)
    except requests.ConnectionError:
        return False
    return True


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Who does not want to wait for the requests under way asks twice."""
    save_slow(tmp_path / "slow/1", rounds=30000)
    server = start_server(str(tmp_path), folder=tmp_path / "run")
    idle_s = _cpu_s(server)
    with Client(server.grpc_url) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.predict, "slow", X, timeout=60)
        wait_for(lambda: _cpu_s(server) > idle_s + 0.5, "the request to run")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _accepts(server.rest_url), "the server to stop")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 128 + signal.SIGTERM
        assert call.exception() is not None


def settings(*models: ModelConfig, **more: object) -> ServerSettings:
    """Make settings of a server in this process: free ports, one attempt a version."""
    return ServerSettings(models=models, loading=LoadSettings(max_retries=0), **more)  # type: ignore[arg-type]


def test_an_embedded_server_leaves_nothing_behind(tiny_models: Path, tmp_path: Path) -> None:
    """Started and stopped twice in one process: it answers, writes its ports, and all its threads end."""
    before = set(threading.enumerate())
    model = ModelConfig(name="m", base_path=str(tiny_models / "half_plus_two"))
    ports = tmp_path / "ports.json"
    for _ in range(2):
        server = Server(settings(model, ports_file=ports))
        server.start()
        assert json.loads(ports.read_text()) == {
            "grpc": server.grpc_port,
            "rest": server.rest_port,
            "pid": os.getpid(),
        }
        with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
            assert client.predict("m", X)["y"].tolist() == [3.0]
        server.stop()
    left = {thread for thread in threading.enumerate() if not thread.daemon} - before
    assert not [thread for thread in left if thread.name.startswith(("run", "load", "unload", "io", "manager"))]


def test_rest_on_every_address(tiny_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """IPv4, in whose form its clients are logged, and IPv6 where there is that, on one port."""
    hosts = ["127.0.0.1", *(["[::1]"] if socket.has_dualstack_ipv6() else [])]
    with serving(tiny_models, rest_host="::", access_log=True) as server:
        for host in hosts:
            url = f"http://{host}:{server.rest_port}/v1/models/half_plus_two"
            assert requests.get(url, timeout=PATIENCE_S).status_code == 200
    peers = [json.loads(line)["peer"].rpartition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert peers == hosts


def test_listeners_may_be_off(tiny_models: Path) -> None:
    """Without a port there is none."""
    model = ModelConfig(name="m", base_path=str(tiny_models / "half_plus_two"))
    server = Server(settings(model, grpc_port=None))
    server.start()
    assert server.grpc_port == 0
    assert requests.get(f"http://127.0.0.1:{server.rest_port}/v1/models/m", timeout=30).status_code == 200
    server.stop()


def test_a_configured_model_that_cannot_be_loaded(tiny_models: Path, tmp_path: Path) -> None:
    """The server does not start, and says so in TensorFlow Serving's words."""
    (tmp_path / "broken/3").mkdir(parents=True)
    good = ModelConfig(name="good", base_path=str(tiny_models / "half_plus_two"))
    bad = ModelConfig(name="bad", base_path=str(tmp_path / "broken"))
    with pytest.raises(Unknown) as caught:
        Server(settings(good, bad)).start()
    text = caught.value.message
    assert text.startswith("1 servable(s) did not become available: {{name: bad version: 3} due to error: NOT_FOUND: ")
    assert text.endswith("}, }")


def test_a_broken_model_in_a_directory_stops_nobody(tiny_models: Path, tmp_path: Path) -> None:
    """A models directory is served as far as it can be, at once, whatever the retries."""
    shutil.copytree(tiny_models / "half_plus_two", tmp_path / "good")
    (tmp_path / "bad/1").mkdir(parents=True)
    with running_server(str(tmp_path)) as server:
        assert states(server, "good") == {123: "AVAILABLE"}
        assert states(server, "bad") == {1: "LOADING"}


def test_a_missing_base_path_holds_nobody_up(tiny_models: Path, tmp_path: Path) -> None:
    """The server starts, and the model is served when it comes."""
    models = (
        ModelConfig(name="good", base_path=str(tiny_models / "half_plus_two")),
        ModelConfig(name="later", base_path=str(tmp_path / "later")),
    )
    server = Server(settings(*models, poll_interval_s=0.05))
    server.start()
    try:
        publish(tiny_models / "half_plus_two/123", tmp_path / "later", 1)
        wait_for(lambda: any(each.is_available for each in server.models().get("later", [])), "the late model")
    finally:
        server.stop()


@pytest.mark.parametrize("unavailable", [False, True])
def test_labels(tiny_models: Path, unavailable: bool) -> None:
    """A label and its version arrive together; one for a version that is not there needs the flag."""
    base = str(tiny_models / "half_plus_two")
    good = Server(settings(ModelConfig(name="m", base_path=base, labels={"stable": 123})))
    good.start()
    with Client(f"http://127.0.0.1:{good.rest_port}") as client:
        assert client.predict("m", X, label="stable").version == 123
    good.stop()
    ghost = ModelConfig(name="m", base_path=base, labels={"ghost": 9})
    server = Server(settings(ghost, unavailable_labels=unavailable))
    if unavailable:
        server.start()
        server.stop()
    else:
        with pytest.raises(FailedPrecondition, match="assign label to version 9 of model m, which is not currently"):
            server.start()


@pytest.mark.parametrize("unavailable", [False, True])
def test_labels_mean_something_from_the_first_request_on(tiny_models: Path, tmp_path: Path, unavailable: bool) -> None:
    """The ports open when the labelled versions answer, too, though the highest version was there before them."""
    for version in (1, 2, 3, 4):
        shutil.copytree(tiny_models / "half_plus_two" / "123", tmp_path / "m" / str(version))
    (tmp_path / "m/4/saved_model.pb").write_bytes(b"broken")
    policy = Specific(versions=(1, 2, 3, 4) if unavailable else (1, 2, 3))
    labels = {"stable": 1, "before": 2, **({"broken": 4} if unavailable else {})}
    model = ModelConfig(name="m", base_path=str(tmp_path / "m"), labels=labels, policy=policy)
    server = Server(settings(model, unavailable_labels=unavailable))
    server.start()
    try:
        with Client(f"grpc://127.0.0.1:{server.grpc_port}", retry=None) as client:
            assert [client.predict("m", X, label=label).version for label in ("stable", "before")] == [1, 2]
    finally:
        server.stop()


def test_a_start_can_be_called_off(tmp_path: Path) -> None:
    """SIGTERM while models still load ends the process, without a port ever opened."""
    (tmp_path / "m/1").mkdir(parents=True)
    ports = tmp_path / "ports.json"
    flags = (f"--model_base_path={tmp_path / 'm'}", "--load_retry_interval_micros=100000000", f"--ports_file={ports}")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "tfbundle", "serve", *flags, "--port=auto"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        wait_for(lambda: "could not be loaded" in log.read_text(), "the first attempt")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not ports.exists()


def test_memory_stays(tiny_models: Path, tmp_path: Path) -> None:
    """Versions that come and go twenty times leave no memory behind."""
    base = tmp_path / "m"
    publish(tiny_models / "half_plus_two/123", base, 1)
    server = Server(settings(ModelConfig(name="m", base_path=str(base)), poll_interval_s=0.02, rest_port=None))
    server.start()
    try:
        resident = []
        for version in itertools.islice(itertools.count(2), 20):
            publish(tiny_models / "half_plus_two/123", base, version)
            wait_for(lambda: [each.is_available for each in server.models()["m"]].count(True) == 1, "the old to go")
            wait_for(lambda number=version: server.models()["m"][0].version == number, f"version {version}")  # type: ignore[misc]
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
        assert resident[-1] < resident[1] * 1.1, resident
    finally:
        server.stop()

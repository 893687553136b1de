"""What a machine may do to a server that does nothing wrong: a full disk, a folder that is gone, the end in the rush.

/dev/full stands for a file on a full disk: it can be opened, and every write to it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.serving.server.conftest import PATIENCE_S, publish, wait_for
from tests.serving.server.in_process import serving
from tfbundle_client import Client
from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.listening import bind, write_ports
from tfbundle_serving.server.settings import LoadSettings

X = np.array([2.0], np.float32)
FULL = Path("/dev/full")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@dataclass
class Asking:
    """Clients that ask over both protocols all the time.

    Attributes:
        answers: Every answer, as (version, value).
        failed: What went wrong.
    """

    urls: tuple[str, ...]
    answers: list[tuple[int, float]] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[Asking]:
        """Ask for the length of a block."""
        with ThreadPoolExecutor(len(self.urls)) as pool:
            for url in self.urls:
                pool.submit(self._ask, url)
            try:
                yield self
            finally:
                self._stop.set()

    def more(self, count: int) -> None:
        """Wait for as many more answers."""
        now = len(self.answers)
        wait_for(lambda: len(self.answers) > now + count or bool(self.failed), "more answers")

    def _ask(self, url: str) -> None:
        try:
            with Client(url) as client:
                while not self._stop.is_set():
                    reply = client.predict("m", X)
                    self.answers.append((int(reply.version), float(reply["y"][0])))
        except BaseException as error:  # shown by the test
            self.failed.append(error)


def test_a_version_folder_that_is_gone_while_in_use(tiny_models: Path, tmp_path: Path) -> None:
    """Where nobody looks at the folder again, requests go on from memory."""
    base = tmp_path / "models/m"
    folder = publish(tiny_models / "half_plus_two/123", base, 1)
    with serving(tmp_path, models=(ModelConfig(name="m", base_path=str(base)),), poll_interval_s=0.0) as server:
        asking = Asking(_urls(server))
        with asking.asking():
            asking.more(10)
            shutil.rmtree(folder)
            asking.more(100)
        assert not asking.failed
        assert set(asking.answers) == {(1, 3.0)}


def _urls(server: Server) -> tuple[str, str]:
    return f"grpc://127.0.0.1:{server.grpc_port}", f"http://127.0.0.1:{server.rest_port}"


def test_a_corrupt_version_dropped_in_under_load(tiny_models: Path, tmp_path: Path) -> None:
    """Cut files and noise instead of a model are refused, one after the other, while the good version answers."""
    base = tmp_path / "models/m"
    good = tiny_models / "half_plus_two/123"
    publish(good, base, 1)
    model = ModelConfig(name="m", base_path=str(base))
    with serving(tmp_path, models=(model,), poll_interval_s=0.05, loading=LoadSettings(max_retries=0)) as server:
        asking = Asking(_urls(server))

        def state(version: int) -> str:
            return next((each.state.name for each in server.models()["m"] if each.version == version), "")

        with asking.asking():
            for version, (name, content) in enumerate(damages(good), start=2):
                staging = shutil.copytree(good, base / f".staging-{version}")
                (staging / name).write_bytes(content)
                staging.rename(base / str(version))
                wait_for(lambda number=version: state(number) == "END", f"version {version} to be refused")  # type: ignore[misc]
                assert state(1) == "AVAILABLE"
            asking.more(50)
        assert not asking.failed
        assert set(asking.answers) == {(1, 3.0)}


def damages(good: Path) -> list[tuple[str, bytes]]:
    """Give files of a version and what to put in their place."""
    graph, index = (good / "saved_model.pb").read_bytes(), (good / "variables/variables.index").read_bytes()
    return [
        ("saved_model.pb", graph[: len(graph) // 2]),
        ("saved_model.pb", b""),
        ("saved_model.pb", bytes(range(256)) * 40),
        ("variables/variables.index", index[: len(index) // 2]),
        ("variables/variables.data-00000-of-00001", b""),
    ]


def test_the_end_under_load(tiny_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each request is answered or finds the server gone: none is answered wrongly or cut off, and nothing complains.

    A client that sends while its connection is being closed sees the connection end, as with every HTTP server; it is
    told UNAVAILABLE, and that nothing came back.
    """
    base = tmp_path / "models/m"
    publish(tiny_models / "half_plus_two/123", base, 1)
    with serving(tmp_path, models=(ModelConfig(name="m", base_path=str(base)),)) as server:
        asking = Asking(_urls(server) * 4)
        with asking.asking():
            asking.more(200)
            server.stop()
            wait_for(lambda: len(asking.failed) == 8, "all clients to be told")
    assert set(asking.answers) == {(1, 3.0)}
    assert {getattr(error, "status_name", repr(error)) for error in asking.failed} == {"UNAVAILABLE"}
    assert not [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@needs_full
def test_logs_on_a_full_disk(tiny_models: Path, tmp_path: Path) -> None:
    """Access log and messages are lost; requests are answered, versions load, and the exit code is 0."""
    base = tmp_path / "models/m"
    publish(tiny_models / "half_plus_two/123", base, 1)
    ports = tmp_path / "ports.json"
    command = [sys.executable, "-m", "tfbundle", "serve", str(tmp_path / "models"), "--enable_access_log"]
    command += ["--port=auto", "--rest_api_port=auto", f"--ports_file={ports}"]
    with FULL.open("wb") as full, subprocess.Popen(command, stdout=full, stderr=full) as process:
        try:
            wait_for(lambda: ports.exists() or process.poll() is not None, "the ports")
            assert process.poll() is None, f"the server ended with {process.returncode}"
            url = f"http://127.0.0.1:{_port(ports)}/v1/models/m"
            for _ in range(300):
                reply = requests.post(f"{url}:predict", data='{"instances": [2.0]}', timeout=PATIENCE_S)
                assert reply.json() == {"predictions": [3.0]}
            publish(tiny_models / "half_plus_two/123", base, 2)
            wait_for(
                lambda: requests.get(f"{url}/versions/2", timeout=PATIENCE_S).status_code == 200,
                "version 2",
            )
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def _port(ports: Path) -> int:
    return int(json.loads(ports.read_text())["rest"])


@needs_full
def test_a_ports_file_on_a_full_disk(tmp_path: Path) -> None:
    """It is one clear error, and no half of a file is left; one that is there stays as it was."""
    path = tmp_path / "ports.json"
    path.write_text("before")
    (tmp_path / f"ports.json.{os.getpid()}").symlink_to(FULL)
    with pytest.raises(BundleError, match=f"^cannot write the ports file {path}: No space left on device$"):
        write_ports(path, grpc=1, rest=2)
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["ports.json"]
    with pytest.raises(BundleError, match=r"No space left on device$"):
        write_ports(FULL, grpc=1, rest=2)
    assert FULL.is_char_device()


def test_a_ports_file_that_cannot_be_written(tiny_models: Path, tmp_path: Path) -> None:
    """The server does not start, one line says why, and its ports are free again."""
    path = tmp_path / "nowhere/ports.json"
    text = f"^cannot write the ports file {path}: No such file or directory$"
    with bind("127.0.0.1", 0, "port") as free:
        port = int(free.getsockname()[1])
    with pytest.raises(BundleError, match=text), serving(tiny_models, grpc_port=port, ports_file=path):
        pass
    bind("127.0.0.1", port, "port").close()

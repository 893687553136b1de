"""Where the rehearsal of a rollout takes place: an embedded server, or a container of the compose file."""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tests.docker.compose_project import ROOT, Compose
from tests.end_to_end.commands import run
from tests.servers import RunningServer, start_server, stop_server
from tfbundle_client import Client

FLAGS = ("--file_system_poll_wait_seconds=1", "--allow_version_labels_for_unavailable_models=true")


class Stage(Protocol):
    """A server that reads one models.config, and can be killed and started again."""

    #: Base path of the model as its configuration names it; in a container that is another one than here.
    base_path: str

    def start(self) -> str:
        """Start the server and give its gRPC address."""

    def kill(self) -> None:
        """End it as a power cut would."""

    def close(self) -> None:
        """Take it away."""


class Embedded:
    """`tfbundle serve` as a process of this machine."""

    def __init__(self, models: Path, config: Path, recorded: Path) -> None:
        self.base_path = str(models / "digits")
        self._arguments = [f"--model_config_file={config}", f"--record={recorded}", "--record_rate=1", *FLAGS]
        self._folder = config.parent
        self._server: RunningServer | None = None

    def start(self) -> str:
        """See `Stage`."""
        self._server = start_server(*self._arguments, folder=self._folder)
        return self._server.grpc_url

    def kill(self) -> None:
        """See `Stage`."""
        assert self._server is not None
        self._server.process.kill()
        self._server.process.wait()

    def close(self) -> None:
        """See `Stage`."""
        if self._server is not None:
            stop_server(self._server)


class Container:
    """The compose file's embedded profile."""

    def __init__(self, models: Path, config: Path, recorded: Path) -> None:
        del recorded  # its file system is read-only
        self.base_path = "/models/digits"
        shutil.copy(ROOT / "serving/monitoring.config", config.parent)
        self._project = Compose("embedded", models, CONFIG_DIR=str(config.parent))

    def start(self) -> str:
        """See `Stage`."""
        self._project.run("up", "--detach", "--wait", "--wait-timeout", "120")
        return f"grpc://127.0.0.1:{self._project.grpc_port}"

    def kill(self) -> None:
        """See `Stage`."""
        self._project.run("kill", "--signal", "SIGKILL")

    def close(self) -> None:
        """See `Stage`."""
        self._project.run("down", "--volumes", "--timeout", "20")


@dataclass
class Traffic:
    """Callers who name the label `stable`, from a thread of their own.

    Attributes:
        url: Where they call.
        images: What they ask about, one a call.
        versions: Which versions answered, one entry a call.
        failed: What went wrong.
    """

    url: str
    images: NDArray[Any]
    versions: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Traffic:
        """Begin to call."""
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the call under way end."""
        self._stop.set()
        self._thread.join()

    def _call(self) -> None:
        # Without retries: a request that failed once has failed.
        with Client(self.url, retry=None) as client:
            at = 0
            while not self._stop.wait(0.01):
                try:
                    answer = client.predict("digits", self.images[at % len(self.images)][np.newaxis], label="stable")
                    self.versions.append(answer.version)
                except Exception as error:
                    self.failed.append(repr(error))
                at += 1


class Operator:
    """Who types the commands: one models.config, one base path, one server.

    Args:
        stage: Where the server runs.
        models: The folder of models, as this machine knows it.
        config: The models.config.
        stack: Takes the server away in the end.
    """

    def __init__(self, stage: Stage, models: Path, config: Path, stack: ExitStack) -> None:
        self.models = models
        self.base_path = models / "digits"
        self.config = config
        self._stage = stage
        stack.callback(stage.close)
        self.url = stage.start()

    def rolls(self, command: str, *arguments: object, code: int = 0) -> dict[str, Any]:
        """Run `promote`, `rollback` or `canary` on the model and give its JSON; the exit code must be this one."""
        done = run(*self._words(command, *arguments))
        assert done.returncode == code, done.stdout + done.stderr
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else {"said": done.stderr}

    def killed_while(self, command: str, *arguments: object, delay_s: float) -> int:
        """Kill the server some time after a command began; give the command's exit code."""
        codes: list[int] = []
        words = self._words(command, *arguments)
        typing = threading.Thread(target=lambda: codes.append(run(*words).returncode))
        typing.start()
        time.sleep(delay_s)
        self._stage.kill()
        typing.join()
        return codes[0]

    def restart(self) -> None:
        """Start the server that was killed."""
        self.url = self._stage.start()

    def answering(self) -> int:
        """Give the version that label `stable` means."""
        with Client(self.url, timeout=60) as client:
            return client.metadata("digits", label="stable").version

    def states(self) -> dict[int, str]:
        """Give the state of each version that the server knows."""
        with Client(self.url, timeout=60) as client:
            return {status.version: status.state.name for status in client.status("digits")}

    def _words(self, command: str, *arguments: object) -> list[object]:
        place = ["--config", self.config, "--base-path", self.base_path, "--server", self.url]
        return [command, "digits", *arguments, *place, "--json"]


def copy_with_a_flipped_bit(version: Path, target: Path) -> Path:
    """Copy a version folder as a bad cable would: one bit of the weights is another, and nothing else."""
    shutil.copytree(version, target)
    weights = next(target.glob("variables/variables.data-*"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    return target

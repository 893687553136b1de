"""docker/compose.yaml for real: built, brought up, called.

tensorflow/serving itself is not pulled: an image of the embedded server carries its name. What is tested of the default
service is therefore its command line, mounts, health check and ports, not TensorFlow Serving.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models import save_half_plus
from tfbundle_client import Client

ROOT = Path(__file__).parents[2]
STAND_IN = "tensorflow/serving:tfbundle-stand-in"


def _engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not _engine_answers(), reason="no Docker engine with compose v2 answers here"),
]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Compose:
    """`docker compose` on our file, under a project name of its own, on free ports."""

    def __init__(self, profile: str, models: Path) -> None:
        self.models = models
        self.grpc_port, self.rest_port = _free_port(), _free_port()
        self._command = ["docker", "compose", "--project-name", f"tfbundle-test-{uuid.uuid4().hex[:8]}"]
        self._environment = {
            **os.environ,
            "COMPOSE_PROFILES": profile,
            "MODELS_DIR": str(models),
            "GRPC_PORT": str(self.grpc_port),
            "REST_PORT": str(self.rest_port),
            "TENSORFLOW_SERVING_IMAGE": STAND_IN,
        }

    def run(self, *arguments: str) -> str:
        """Run one compose command and give its output."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT / "docker",
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def image() -> None:
    """The embedded server's image, under its own name and under that of the stand-in."""
    build = ["docker", "build", "-q", "-t", "tfbundle:latest", "-t", STAND_IN, "-f", "docker/Dockerfile", "."]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=["embedded", "serving"])
def compose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Each profile in turn, up and healthy, over a model `digits`, which models.config names, at version 1."""
    request.getfixturevalue("image")
    models = tmp_path_factory.mktemp("models")
    models.chmod(0o755)
    save_half_plus(models / "digits" / "1")
    project = Compose(request.param, models)
    try:
        project.run("up", "--detach", "--wait", "--wait-timeout", "120")
        yield project
    finally:
        project.run("down", "--volumes", "--timeout", "20")


def test_the_service_answers_over_both_transports(compose: Compose) -> None:
    """A model that models.config names is served on both published ports once the service is healthy."""
    for url in (f"grpc://127.0.0.1:{compose.grpc_port}", f"http://127.0.0.1:{compose.rest_port}"):
        with Client(url) as client:
            result = client.predict("digits", np.array([1.0, 2.0, 5.0], np.float32))
            np.testing.assert_allclose(result["y"], [2.5, 3.0, 4.5])


def test_a_dropped_in_version_takes_over(compose: Compose) -> None:
    """A new version folder in the mounted directory is served without a restart."""
    staging = save_half_plus(compose.models / "digits" / "staging", addend=10.0)
    staging.rename(compose.models / "digits" / "2")
    with Client(f"grpc://127.0.0.1:{compose.grpc_port}") as client:
        client.wait_until_available("digits", version=2, timeout=60)
        np.testing.assert_allclose(client.predict("digits", np.array([1.0], np.float32))["y"], [10.5])


def test_the_container_runs_without_root_and_stops_at_once(compose: Compose) -> None:
    """The process is not root, cannot write to its file system, and ends on SIGTERM."""
    service = compose.run("ps", "--services").split()[0]
    assert compose.run("exec", "-T", service, "id", "-u").strip() == "10001"
    written = compose.run("exec", "-T", service, "sh", "-c", "touch /models/x /x 2>&1 || echo refused")
    assert "refused" in written
    compose.run("stop", "--timeout", "20")
    states = compose.run("ps", "--all", "--format", "json")
    assert '"ExitCode":0' in states.replace(" ", ""), states


@pytest.mark.usefixtures("image")
def test_the_image_alone_is_healthy(tmp_path: Path) -> None:
    """Run as it is, without flags or configuration, the image serves what is mounted at /models and says it is well."""
    tmp_path.chmod(0o755)
    save_half_plus(tmp_path / "half_plus_two" / "1")
    name = f"tfbundle-test-{uuid.uuid4().hex[:8]}"
    run = ["docker", "run", "--detach", "--rm", "--name", name, "--volume", f"{tmp_path}:/models:ro", "tfbundle:latest"]
    subprocess.run(run, check=True, capture_output=True)
    try:
        deadline = time.monotonic() + 90
        health = "starting"
        while health == "starting" and time.monotonic() < deadline:
            time.sleep(0.5)
            look = ["docker", "inspect", "--format", "{{.State.Health.Status}}", name]
            health = subprocess.run(look, check=True, capture_output=True, text=True).stdout.strip()
        assert health == "healthy"
    finally:
        subprocess.run(["docker", "stop", "--time", "20", name], check=True, capture_output=True)

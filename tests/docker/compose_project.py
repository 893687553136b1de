"""`docker compose` on our file, for tests, under project names of their own and on free ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path

from tests.docker.free_ports import free_port

ROOT = Path(__file__).parents[2]
#: The embedded server's image under the name of TensorFlow Serving's, which cannot be pulled everywhere.
STAND_IN = "tensorflow/serving:tfbundle-stand-in"


def engine_answers() -> bool:
    """Tell whether there is a Docker engine, with compose v2."""
    if shutil.which("docker") is None:
        return False
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)


class Compose:
    """`docker compose` on our file, under a project name of its own, on free ports.

    Args:
        profiles: Separated by commas, as COMPOSE_PROFILES takes them.
        models: The folder of models; that of models.config is made beside it.
        settings: Further variables of .env.
    """

    def __init__(self, profiles: str, models: Path, **settings: str) -> None:
        self.models = models
        self.config = models.parent / f"{models.name}-config"
        shutil.copytree(ROOT / "serving", self.config, ignore=shutil.ignore_patterns("tfbundle_serving"))
        self.config.chmod(0o755)
        self.grpc_port, self.rest_port = free_port(), free_port()
        self._command = ["docker", "compose", "--project-name", f"tfbundle-test-{uuid.uuid4().hex[:8]}"]
        self._environment = {
            **os.environ,
            "COMPOSE_PROFILES": profiles,
            "CONFIG_DIR": str(self.config),
            **settings,
            "MODELS_DIR": str(models),
            "GRPC_PORT": str(self.grpc_port),
            "REST_PORT": str(self.rest_port),
            "TENSORFLOW_SERVING_IMAGE": STAND_IN,
        }

    def set(self, **settings: str) -> None:
        """Change variables of .env."""
        self._environment |= settings

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

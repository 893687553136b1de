"""A models.config, versions of a tiny model with their golden.npz, and commands that change which one a label means."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.models import save_half_plus
from tests.servers import RunningServer
from tfbundle.cli import main
from tfbundle_client import ApiError, Client
from tfbundle_serving.apis.golden import Golden, write_golden
from tfbundle_serving.apis.version_folder import golden_path

CONFIG = """\
# What the shop serves.
model_config_list {{
  config {{
    name: "m"  # version n answers x / 2 + n
    base_path: "{base}"
    model_platform: "tensorflow"
    {policy}
  }}
}}
"""
LATEST = "model_version_policy { latest { num_versions: 1 } }"
FIRST_IS_STABLE = 'model_version_policy { specific { versions: 1 } }\n    version_labels { key: "stable" value: 1 }'


@dataclass(frozen=True)
class Site:
    """A folder with a models.config and the versions of the model `m`."""

    root: Path

    @property
    def config(self) -> Path:
        """The models.config."""
        return self.root / "config" / "models.config"

    @property
    def base(self) -> Path:
        """The base path of the model."""
        return self.root / "models" / "m"

    def write(self, policy: str = FIRST_IS_STABLE) -> str:
        """Begin anew: a models.config with this policy, without a history."""
        shutil.rmtree(self.config.parent, ignore_errors=True)
        self.config.parent.mkdir(parents=True)
        text = CONFIG.format(base=self.base, policy=policy)
        self.config.write_text(text)
        return text

    def publish(self, version: int, *, golden_of: float | None = None) -> None:
        """Save a version whose golden.npz says that it answers x / 2 + golden_of; the truth, unless told otherwise."""
        folder = save_half_plus(self.base / f".new-{version}", addend=float(version))
        x = np.arange(4, dtype=np.float32)
        golden_path(folder).parent.mkdir()
        addend = np.float32(version if golden_of is None else golden_of)
        write_golden(golden_path(folder), {"serving_default": Golden({"x": x}, {"y": x / 2 + addend})})
        folder.rename(self.base / str(version))

    def run(self, *arguments: object, servers: tuple[RunningServer, ...]) -> subprocess.CompletedProcess[str]:
        """Run a command with the models.config and servers, in this process."""
        words = self.words(*arguments, servers=servers)
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(words)
        return subprocess.CompletedProcess(words, code, out.getvalue(), errors.getvalue())

    def words(self, *arguments: object, servers: tuple[RunningServer, ...]) -> list[str]:
        """Give the arguments of such a command."""
        addresses = [word for server in servers for word in ("--server", server.grpc_url)]
        return [*map(str, arguments), "--config", str(self.config), *addresses]

    def succeed(self, *arguments: object, servers: tuple[RunningServer, ...]) -> subprocess.CompletedProcess[str]:
        """Run a command that must succeed."""
        done = self.run(*arguments, servers=servers)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def fail(self, *arguments: object, servers: tuple[RunningServer, ...], code: int = 1) -> str:
        """Run a command that must fail with one line that begins with "error:"; return that line."""
        done = self.run(*arguments, servers=servers)
        assert done.returncode == code, done.stdout + done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        return line


def answers(server: RunningServer) -> Mapping[str, int | None]:
    """Ask which version answers without a label, and through each label."""
    with Client(server.grpc_url, timeout=30) as client:
        return {label or "none": _answering(client, label) for label in (None, "stable", "canary")}


def _answering(client: Client, label: str | None) -> int | None:
    try:
        return client.predict("m", [0.0], label=label).version
    except ApiError:
        return None

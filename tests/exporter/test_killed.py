"""An exporter that is killed leaves a whole version or none, and the next one cleans up."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import Serve
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path, list_versions, read_metadata

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans, which only Linux lets a process do")


@dataclass(frozen=True)
class Killed:
    """A base path into which exporters were killed at many moments, and what was there after each of them."""

    base: Path
    runs: list[dict[str, Any]]
    orphans: int

    @property
    def undisturbed(self) -> list[int]:
        """Places of the exporters that were let run."""
        return [place for place, run in enumerate(self.runs) if run["moment"] == "none"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Run kill_exporter.py."""
    base = tmp_path_factory.mktemp("killed") / "m"
    program = Path(__file__).with_name("kill_exporter.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), str(base)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Killed(
        base,
        [line for line in lines if "moment" in line],
        next(line["orphans"] for line in lines if "orphans" in line),
    )


def test_it_was_killed_at_all_moments(killed: Killed) -> None:
    """Those that are let run end well, each of the others by SIGKILL, most of them while staging."""
    undisturbed = killed.undisturbed
    assert undisturbed == [0, 1, len(killed.runs) - 1]
    for place, run in enumerate(killed.runs):
        assert run["status"] == (0 if place in undisturbed else -9), run
    assert len(killed.runs) > 60
    assert sum(run["leftovers"] for run in killed.runs) > 40


def test_every_version_is_whole(killed: Killed, serve: Serve) -> None:
    """Each folder with a number has all of its files, by their hashes, and answers as its golden.npz says."""
    versions = list_versions(killed.base)
    assert len(versions) >= 3
    for version, folder in versions.items():
        metadata = read_metadata(folder)
        assert metadata is not None
        assert metadata["version"] == version
        for name, sha256 in metadata["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    for folder in (versions[1], versions[max(versions)]):
        golden = read_golden(golden_path(folder))["serving_default"]
        np.testing.assert_allclose(serve(folder, dict(golden.inputs))["y"], golden.outputs["y"], rtol=1e-5, atol=1e-5)


def test_versions_only_come(killed: Killed) -> None:
    """No kill takes a version away, and only one behind the rename adds one."""
    for before, after in itertools.pairwise(killed.runs):
        assert set(before["versions"]) <= set(after["versions"])
    renames = [place for place, run in enumerate(killed.runs) if "dlsym" in run["moment"]]
    assert renames
    late = len(killed.undisturbed) + len(killed.runs[renames[-1] + 1 : killed.undisturbed[-1]])
    assert len(killed.runs[-1]["versions"]) <= late, killed.runs


def test_the_next_export_cleans_up(killed: Killed) -> None:
    """After the last, undisturbed exporter nothing is left over, and never more than one killed one's folder."""
    assert max(run["leftovers"] for run in killed.runs) == 1
    names = {path.name for path in killed.base.iterdir()}
    assert names - {str(version) for version in list_versions(killed.base)} <= {".lock", ".released", ".released.new"}
    released = [int(line) for line in (killed.base / ".released").read_text().split()]
    assert set(list_versions(killed.base)) <= set(released)


def test_a_killed_exporters_gate_ends_by_itself(killed: Killed) -> None:
    """The process that waits for work, or is at it, sees that nobody waits for its answer, and goes."""
    assert killed.orphans >= 1

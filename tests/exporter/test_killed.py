"""An exporter that is killed leaves a whole version or none, and the next one cleans up."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import Serve
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path, list_versions, read_metadata

MOMENTS = 12


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A base path into which exporters were killed at many moments, and what was there after each."""
    base = tmp_path_factory.mktemp("killed") / "m"
    program = Path(__file__).with_name("kill_exporter.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), str(base), str(MOMENTS)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return base, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_was_killed_at_all_moments(killed: tuple[Path, list[dict[str, Any]]]) -> None:
    """The first and the last exporter end well, each of the others by SIGKILL, some of them while staging."""
    _, runs = killed
    assert [run["status"] for run in runs] == [0, *[-9] * (len(runs) - 2), 0], runs
    assert len(runs) == MOMENTS + 6
    assert sum(run["leftovers"] for run in runs) >= 8


def test_every_version_is_whole(killed: tuple[Path, list[dict[str, Any]]], serve: Serve) -> None:
    """Each folder with a number has all of its files, by their hashes, and answers as its golden.npz says."""
    base, _ = killed
    versions = list_versions(base)
    assert versions
    for version, folder in versions.items():
        metadata = read_metadata(folder)
        assert metadata is not None
        assert metadata["version"] == version
        for name, sha256 in metadata["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
        golden = read_golden(golden_path(folder))["serving_default"]
        np.testing.assert_allclose(serve(folder, dict(golden.inputs))["y"], golden.outputs["y"], rtol=1e-5, atol=1e-5)


def test_versions_only_come(killed: tuple[Path, list[dict[str, Any]]]) -> None:
    """No kill takes a version away, and only one behind the rename adds one."""
    _, runs = killed
    for before, after in itertools.pairwise(runs):
        assert set(before["versions"]) <= set(after["versions"])
    assert len(runs[-1]["versions"]) <= 3, runs


def test_the_next_export_cleans_up(killed: tuple[Path, list[dict[str, Any]]]) -> None:
    """After the last, undisturbed exporter nothing is left over, and never more than one killed one's folder."""
    base, runs = killed
    assert max(run["leftovers"] for run in runs) == 1
    names = {path.name for path in base.iterdir()}
    assert names - {str(version) for version in list_versions(base)} <= {".lock", ".released", ".released.new"}
    released = [int(line) for line in (base / ".released").read_text().split()]
    assert set(list_versions(base)) <= set(released)

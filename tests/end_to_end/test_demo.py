"""`tfbundle demo` as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)


def _demo(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tfbundle", "demo", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def _processes_about(folder: Path) -> list[str]:
    """List command lines of live processes that name the demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it ended between the two looks
                continue
            if str(folder) in command:
                found.append(command)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all runs: each begins where another was interrupted."""
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("moment", ["logs/training-1.log", "logs/training-2.log"])
def test_ctrl_c_leaves_no_process_behind(folder: Path, moment: str) -> None:
    """Interrupted in either training, the second beside a server under traffic, the demo ends with 130, all alone."""
    started = time.time() - 1
    process = _demo(folder)
    deadline = time.monotonic() + 120
    while not (folder / moment).exists() or (folder / moment).stat().st_mtime < started:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # Python ends itself by SIGINT where the interrupt came inside an eval, as in an import; a shell says 130 to both.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert "interrupted" in errors
    assert not _processes_about(folder)


def test_the_demo_runs_the_whole_path(folder: Path) -> None:
    """Equal accuracy, traffic moved without a failure, a report on disk, nothing left running."""
    process = _demo(folder)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, output + errors
    assert re.search(r"test accuracy 0\.9\d", output)
    assert (folder / "models/digits/1/saved_model.pb").exists()
    assert (folder / "models/digits/2/metadata.json").exists()
    accuracies = re.findall(r"(0\.\d{4})\s+(0\.\d{4})\s+[\d,]+\s*$", output, re.MULTILINE)
    assert len(accuracies) == 4, output
    assert all(local == served for local, served in accuracies), output
    moved = re.search(r"version 1 answered (\d+), version 2 answered (\d+), 0 failed", output)
    assert moved, output
    assert min(map(int, moved.groups())) > 0
    page = (folder / "parity.html").read_text()
    assert page.count("<svg") >= 2
    assert not re.search(r"""(src|href)=["']https?:""", page), "the report must be self-contained"
    assert not _processes_about(folder)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """The demo clears only what an earlier demo made."""
    (tmp_path / "thesis.txt").write_text("mine")
    process = _demo(tmp_path)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert str(tmp_path) in errors
    assert (tmp_path / "thesis.txt").read_text() == "mine"

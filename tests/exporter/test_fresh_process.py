"""Work in a process of its own: results, errors and log lines come back, and an end is told."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfbundle_exporter import fork_server
from tfbundle_exporter.fresh_process import FreshProcess
from tfbundle_serving.apis.errors import ExportError, GateError

ENVIRONMENT = {"TFBUNDLE_TEST": "fork"}


@pytest.fixture(params=[False, True], ids=["spawned", "forked"])
def process(request: pytest.FixtureRequest) -> Iterator[FreshProcess]:
    """A process of either kind."""
    with FreshProcess("the test", environment=ENVIRONMENT, is_usual=request.param) as started:
        yield started


def where() -> tuple[int, str]:
    """Tell in which process this is."""
    return os.getpid(), os.environ.get("TFBUNDLE_TEST", "")


def say_and_refuse() -> None:
    """Say something and fail as the gate does."""
    logging.getLogger("tfbundle_exporter.there").warning("on the way")
    raise GateError("it differs")


def die(number: int) -> None:
    """End as a crash does."""
    os.kill(os.getpid(), number)


def test_the_result_comes_back(process: FreshProcess) -> None:
    """Something else than this process has run the function, with the environment that was asked for."""
    pid, variable = process.run(where)
    assert pid != os.getpid()
    assert variable == "fork"


def test_errors_and_log_lines_come_back(process: FreshProcess, caplog: pytest.LogCaptureFixture) -> None:
    """An error of ours keeps its class and text, and what was logged is logged here."""
    with pytest.raises(GateError, match=r"^it differs$"):
        process.run(say_and_refuse)
    assert "on the way" in caplog.text


def test_another_error_is_told_in_a_line(process: FreshProcess) -> None:
    """What was not foreseen arrives as an ExportError with the class and the text."""
    with pytest.raises(ExportError, match="ValueError: invalid literal"):
        process.run(int, "x")


def test_a_crash_is_told(process: FreshProcess) -> None:
    """The signal that ended the process stands in the error."""
    with pytest.raises(ExportError, match="the test was ended by SIGABRT before it was done"):
        process.run(die, signal.SIGABRT)


def test_nothing_to_do(process: FreshProcess) -> None:
    """A process that is not needed goes without a word."""
    process.close()


@pytest.mark.skipif(not fork_server.IS_AVAILABLE, reason="this system starts each process anew")
def test_forks_have_one_parent_and_survive_it() -> None:
    """Two processes come from one server; when that is killed, the next one comes from a new one."""
    parents = []
    for _ in range(2):
        with FreshProcess("the test", environment=ENVIRONMENT, is_usual=True) as process:
            parents.append(process.run(os.getppid))
    assert parents[0] == parents[1] != os.getpid()
    os.kill(parents[0], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not _is_dead(parents[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    with FreshProcess("the test", environment=ENVIRONMENT, is_usual=True) as process:
        assert process.run(os.getppid) != parents[0]


@pytest.mark.skipif(not fork_server.IS_AVAILABLE, reason="this system starts each process anew")
def test_the_server_ends_with_its_starter(tmp_path: Path) -> None:
    """Nothing is left of a process that exported and was killed."""
    code = (
        "import os; from tfbundle_exporter.fresh_process import FreshProcess\n"
        "with FreshProcess('it', is_usual=True) as process: print(process.run(os.getppid), flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    server = int(done.stdout)
    deadline = time.monotonic() + 20
    while not _is_dead(server):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"

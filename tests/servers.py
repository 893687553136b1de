"""Real `tfbundle serve` processes for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.nursery import NURSERY, ForkedProcess


@dataclass(frozen=True)
class RunningServer:
    """One server process and where it listens."""

    process: ForkedProcess | subprocess.Popen[bytes]
    grpc_port: int
    rest_port: int
    log: Path

    @property
    def grpc_url(self) -> str:
        """Address for a client over gRPC."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def rest_url(self) -> str:
        """Address for a client over REST."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc_target(self) -> str:
        """Address as grpc itself spells it."""
        return f"127.0.0.1:{self.grpc_port}"


def start_server(*arguments: str, folder: Path, wait_s: float = 90.0, fresh: bool = False) -> RunningServer:
    """Start `tfbundle serve` on ports that the system picks, and wait until both listen.

    Args:
        arguments: Flags.
        folder: Where log and ports file go.
        wait_s: Seconds that it may take.
        fresh: As a process of its own from the first instruction on, which is what has to be measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports_file = folder / f"ports-{time.monotonic_ns()}.json"
    log = ports_file.with_suffix(".log")
    ports = ["--port=auto", "--rest_api_port=auto", f"--ports_file={ports_file}"]
    process = (_start if fresh else NURSERY.start)(["serve", *arguments, *ports], log, {"TF_CPP_MIN_LOG_LEVEL": "2"})
    deadline = time.monotonic() + wait_s
    while not ports_file.exists():
        if process.poll() is not None:
            raise AssertionError(f"server ended with {process.returncode}:\n{log.read_text()}")
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"server did not listen within {wait_s} s:\n{log.read_text()}")
        time.sleep(0.05)
    chosen = json.loads(ports_file.read_text())
    return RunningServer(process, chosen["grpc"], chosen["rest"], log)


def _start(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        command = [sys.executable, "-m", "tfbundle", *arguments]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment})


def stop_server(server: RunningServer, wait_s: float = 30.0) -> int:
    """Ask the server to stop and return its exit code."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    try:
        return server.process.wait(wait_s)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise AssertionError(f"server did not stop within {wait_s} s:\n{server.log.read_text()}") from None


@contextmanager
def running_server(*arguments: str, folder: Path | None = None, fresh: bool = False) -> Iterator[RunningServer]:
    """Run a server for the length of a block; see `start_server`."""
    with tempfile.TemporaryDirectory() as scratch:
        server = start_server(*arguments, folder=folder or Path(scratch), fresh=fresh)
        try:
            yield server
        finally:
            stop_server(server)

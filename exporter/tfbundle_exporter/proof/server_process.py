"""A server for the length of a block, on a staged version: the embedded one, or one that the user names."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError, GateError

logger = logging.getLogger(__name__)

#: The version's number while it is tried; nobody else sees it.
VERSION = 1

_START_S, _STOP_S, _LOOK_S = 300.0, 20.0, 0.05
_LOG_LINES = 8
_PLACES = ("model_name", "base_path", "port", "rest_port")


@dataclass(frozen=True, slots=True)
class TrialServer:
    """A server that was started.

    Attributes:
        name: What it is called in reports.
        process: Its process.
        grpc_port: Where it answers gRPC; None where it was not told to.
        rest_port: Where it answers REST; None where it was not told to.
        log: What it has said.
    """

    name: str
    process: subprocess.Popen[bytes]
    grpc_port: int | None
    rest_port: int | None
    log: Path

    def check_alive(self) -> None:
        """Refuse to wait for a server that has ended.

        Raises:
            GateError: It has; the message ends with its last words.
        """
        code = self.process.poll()
        if code is not None:
            raise GateError(f"{self.name} tried the staged version and ended with exit code {code}: {self.said()}")

    def said(self) -> str:
        """Give the end of its log in one line."""
        lines = self.log.read_text(errors="replace").split("\n")
        return " | ".join([line.strip() for line in lines if line.strip()][-_LOG_LINES:]) or "it said nothing"


@contextmanager
def trial_server(folder: Path, *, model_name: str, command: str = "") -> Iterator[TrialServer]:
    """Start a server on a staged version and stop it afterwards.

    It may not be ready yet: that is to be seen over the wire.

    Args:
        folder: The staged version folder; the server gets a base path beside it with hard links to its files.
        model_name: What the model is called, which is what its base path is called.
        command: The server's command line with {model_name}, {base_path}, {port} and {rest_port}; "" for the
            embedded server.

    Raises:
        ExportError: The command line names another place, or no port.
        GateError: The server ended before it listened.
        OSError: It cannot be started.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="serve-", dir=folder.parent)))
        base = _link(folder, scratch / "models" / model_name)
        log = scratch / "server.log"
        start = _start_named if command else _start_embedded
        server = start(base, model_name, command, log)
        stack.callback(_stop, server)
        logger.info("started %s on the staged version", server.name)
        yield server


def _link(folder: Path, base: Path) -> Path:
    """Make a base path with the version in it, which whoever the server runs as can read."""
    version = base / str(VERSION)
    shutil.copytree(folder, version, copy_function=_link_file)
    for parent in (version, *version.parents):
        parent.chmod(0o755)
        if parent == folder.parent:
            break
    for path in version.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return base


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _start_embedded(base: Path, model_name: str, _: str, log: Path) -> TrialServer:
    ports_file = log.with_name("ports.json")
    arguments = [f"--model_name={model_name}", f"--model_base_path={base}"]
    # It listens once the version is loaded, or ends; what cannot be loaded now cannot be loaded later.
    arguments += ["--max_num_load_retries=0", "--port=auto", "--rest_api_port=auto", f"--ports_file={ports_file}"]
    process = _popen([sys.executable, "-m", "tfbundle", "serve", *arguments], log)
    server = TrialServer("tfbundle serve", process, None, None, log)
    deadline = time.monotonic() + _START_S
    try:
        while not ports_file.exists():
            server.check_alive()
            if time.monotonic() > deadline:
                raise GateError(
                    f"the embedded server did not load the staged version within {_START_S:.0f} s: {server.said()}"
                )
            time.sleep(_LOOK_S)
    except BaseException:
        _stop(server)
        raise
    ports = json.loads(ports_file.read_text())
    return TrialServer(server.name, process, ports["grpc"], ports["rest"], log)


def _start_named(base: Path, model_name: str, command: str, log: Path) -> TrialServer:
    ports = {name: _free_port() for name in ("port", "rest_port") if f"{{{name}}}" in command}
    if not ports:
        raise ExportError(f"the server's command line names neither {{port}} nor {{rest_port}}: {command}")
    values = {"model_name": model_name, "base_path": str(base), **{name: str(port) for name, port in ports.items()}}
    try:
        # Split before it is filled in: a base path with a space in it stays one argument.
        arguments = [part.format_map(values) for part in shlex.split(command)]
    except (KeyError, ValueError, IndexError) as error:
        known = ", ".join(f"{{{name}}}" for name in _PLACES)
        raise ExportError(f"the server's command line cannot be filled in ({error}); it may name {known}") from error
    try:
        process = _popen(arguments, log)
    except OSError as error:
        raise ExportError(f"cannot start the server {arguments[0]!r}: {error.strerror}") from error
    return TrialServer(arguments[0], process, ports.get("port"), ports.get("rest_port"), log)


def _popen(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(server: TrialServer) -> None:
    server.process.terminate()
    try:
        server.process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()

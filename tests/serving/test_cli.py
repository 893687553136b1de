"""`tfbundle serve` as a command."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.servers import running_server, stop_server
from tfbundle_serving.cli import main


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to stdout and names the flags."""
    assert main(["serve", "--help"]) == 0
    assert "--rest_api_port=PORT" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--prot=1"], [], ["--port=x", "models"]])
def test_misuse(arguments: list[str]) -> None:
    """Misuse is a UsageError of the command `serve`, which the roof turns into exit code 2."""
    with pytest.raises(click.UsageError) as caught:
        main(["serve", *arguments])
    assert caught.value.ctx is not None
    assert caught.value.ctx.info_name == "serve"


def test_a_port_in_use_is_reported_before_tensorflow_is_imported(tiny_models: Path) -> None:
    """The line names port and flag, and nothing else is printed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-X", "importtime", "-m", "tfbundle", "serve", str(tiny_models), f"--port={port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert said == [
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use; choose another port with --port=PORT"
    ]
    assert "| tensorflow" not in done.stderr


def test_what_is_served_is_said(tiny_models: Path) -> None:
    """On start the models, their versions and both addresses are on stderr, one line for every change before that."""
    with running_server(str(tiny_models), "--no_such_flag", "--ignore_unknown_flags") as server:
        assert stop_server(server) == 0
        log = server.log.read_text()
    assert "unknown argument: --no_such_flag" in log
    assert "half_plus_two  version 123\n" in log
    assert f"gRPC  grpc://localhost:{server.grpc_port}\n" in log
    assert f"REST  http://localhost:{server.rest_port}/v1/models\n" in log
    assert "half_plus_two version 123: AVAILABLE" in log
    assert "half_plus_two version 123: END" in log
    assert "oneDNN" not in log

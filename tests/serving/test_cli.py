"""`tfbundle serve` as a command."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import requests

from tests.servers import running_server, stop_server
from tests.serving.server.conftest import PATIENCE_S, wait_for
from tfbundle_serving.cli import main, tensorflow_model_server


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a command sets up for its process must not outlive a test: its stream is the test's."""
    yield
    logging.getLogger("tfbundle_serving").handlers.clear()


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


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines, as tensorflow_model_server writes them; a script reads a number out of each."""
    for show, arguments in ((main, ["serve", "--version"]), (tensorflow_model_server, ["--version"])):
        assert show(arguments) == 0
        assert re.fullmatch(
            r"TensorFlow ModelServer: \d+\.\d+\S*\nTensorFlow Library: \d+\.\d+\S*\n", capsys.readouterr().out
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "usage: tensorflow_model_server"),
        (["--port=x"], "--port takes a whole number, got 'x'\nusage: "),
        (
            [],
            "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path",
        ),
        (["--model_config_file=/absent"], "Failed to start server. Error: NOT_FOUND: /absent: "),
    ],
)
def test_tensorflow_model_server_that_does_not_start(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 255 and says why on stdout."""
    assert tensorflow_model_server(arguments) == 255
    assert capsys.readouterr().out.startswith(said)


def test_tensorflow_model_server(tiny_models: Path, tmp_path: Path) -> None:
    """A line that starts TensorFlow Serving starts this, whatever it says that means nothing here."""
    ports = tmp_path / "ports.json"
    program = "import sys; from tfbundle_serving.cli import tensorflow_model_server as run; sys.exit(run())"
    flags = [
        "--port=auto",
        "--rest_api_port=auto",
        f"--ports_file={ports}",
        "--model_name=half_plus_two",
        f"--model_base_path={tiny_models / 'half_plus_two'}",
        "--enable_profiler",
        "--xla_cpu_compilation_enabled",
        "--no_such_flag=1",
        "stray",
    ]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program, *flags], stdout=output, stderr=output)
    try:
        wait_for(lambda: ports.exists() or process.poll() is not None, "the ports")
        rest = json.loads(ports.read_text())["rest"]
        url = f"http://127.0.0.1:{rest}/v1/models/half_plus_two:predict"
        assert requests.post(url, json={"instances": [2.0]}, timeout=30).json() == {"predictions": [3.0]}
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    text = log.read_text()
    assert text.startswith("unknown argument: --no_such_flag=1\nunknown argument: stray\nusage: ")
    assert text.count("--enable_profiler has no effect here") == 1
    assert "half_plus_two  version 123\n" in text

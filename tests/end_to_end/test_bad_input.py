"""What bad input gets from the command line: one clear line, an exit code, and nothing written."""

from __future__ import annotations

import json
import socket
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.commands import run
from tests.servers import RunningServer


def one_error(done: subprocess.CompletedProcess[str], code: int, *named: str) -> None:
    """Expect that exit code, nothing on stdout, and one line on stderr that begins with "error" and names things."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for name in named:
        assert name in errors[0], errors[0]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Keras 3 model, image (?, 4) to score (?, 2), as .h5."""
    import keras

    path = tmp_path_factory.mktemp("model") / "model.h5"
    model = keras.Sequential([keras.Input((4,), name="image"), keras.layers.Dense(2, name="score")])
    model.save(path)
    return path


@pytest.fixture
def base_path(tmp_path: Path) -> Iterator[Path]:
    """Where an export that must fail would write; nothing may appear there under a number."""
    base = tmp_path / "models" / "digits"
    yield base
    names = [path.name for path in base.iterdir()] if base.exists() else []
    assert not [name for name in names if name.isdigit() or "staging" in name]


class TestExport:
    def test_missing_file(self, base_path: Path) -> None:
        """A path that does not exist is named."""
        one_error(run("export", "no_such_model.h5", str(base_path)), 1, "no_such_model.h5")

    def test_text_file(self, tmp_path: Path, base_path: Path) -> None:
        """A file that is no model is named, and what would be one is said."""
        (tmp_path / "notes.h5").write_text("these are my notes")
        one_error(run("export", str(tmp_path / "notes.h5"), str(base_path)), 1, "notes.h5")

    def test_truncated_file(self, model_file: Path, tmp_path: Path, base_path: Path) -> None:
        """Half an .h5 is said to be damaged."""
        content = model_file.read_bytes()
        (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
        one_error(run("export", str(tmp_path / "half.h5"), str(base_path)), 1, "half.h5")

    def test_examples_of_a_wrong_shape(self, model_file: Path, tmp_path: Path, base_path: Path) -> None:
        """The input's name, the wanted shape and the given one are said."""
        np.save(tmp_path / "x.npy", np.zeros((3, 5), np.float32))
        done = run("export", str(model_file), str(base_path), f"--examples={tmp_path / 'x.npy'}")
        one_error(done, 1, "image", "4", "5")

    def test_a_lambda_is_refused_before_it_is_loaded(self, tmp_path: Path, base_path: Path) -> None:
        """A model file with code in it is refused, naming the layer."""
        import tf_keras

        layers = [tf_keras.layers.Input((2,)), tf_keras.layers.Lambda(lambda x: x * 2, name="doubler")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of .h5 being an old format
            tf_keras.Sequential(layers).save(tmp_path / "code.h5")
        one_error(run("export", str(tmp_path / "code.h5"), str(base_path)), 1, "doubler", "--allow-unsafe")

    def test_no_arguments(self) -> None:
        """Misuse ends with 2."""
        one_error(run("export"), 2, "SOURCE")


def test_export_onto_a_released_number(model_file: Path, tmp_path: Path) -> None:
    """A released version is never overwritten, whatever is asked."""
    base = tmp_path / "digits"
    first = run("export", str(model_file), str(base), "--version=3")
    assert first.returncode == 0, first.stderr
    before = {path: path.stat().st_mtime_ns for path in (base / "3").rglob("*")}
    one_error(run("export", str(model_file), str(base), "--version=3"), 1, "3", str(base))
    assert before == {path: path.stat().st_mtime_ns for path in (base / "3").rglob("*")}


class TestServe:
    def test_an_empty_models_directory(self, tmp_path: Path) -> None:
        """A folder without models is named."""
        one_error(run("serve", str(tmp_path), "--port=auto"), 1, str(tmp_path))

    @pytest.mark.parametrize("flag", ["port", "rest_api_port"])
    def test_a_port_in_use(self, tiny_models: Path, flag: str) -> None:
        """The port and the flag that chooses another are named."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            other = "rest_api_port" if flag == "port" else "port"
            model = f"--model_base_path={tiny_models / 'half_plus_two'}"
            one_error(
                run("serve", "--model_name=m", model, f"--{flag}={port}", f"--{other}=auto"), 1, port, f"--{flag}"
            )

    def test_an_unknown_flag(self, tiny_models: Path) -> None:
        """The nearest flag is named."""
        one_error(run("serve", str(tiny_models), "--rest_port=0"), 2, "--rest_port", "--rest_api_port")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_predict_where_nothing_listens(scheme: str) -> None:
    """The address that does not answer is named."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{unused.getsockname()[1]}"
        one_error(run("predict", address, "digits", "--input=[1.0]", "--timeout=5"), 1, address)


BAD_CALLS = {
    "model": (["no_such_model", "--input=[1.0]"], ["no_such_model"]),
    "version": (["half_plus_two", "--input=[1.0]", "--version=9"], ["half_plus_two", "9"]),
    "signature": (["half_plus_two", "--input=[1.0]", "--signature=classify"], ["classify", "serving_default"]),
    "input": (["half_plus_two", '--input={"xs": [1.0]}'], ["xs", "x"]),
    "dtype": (["half_plus_two", '--input=["one"]'], ["x", "float32"]),
    "shape": (["half_plus_two", "--input=[[1.0], [2.0]]"], ["x", "(?,)", "(2, 1)"]),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_calls(server: RunningServer, call: str) -> None:
    """Each gets the same line over both transports, which names what is wrong and what exists."""
    arguments, named = BAD_CALLS[call]
    over_grpc = run("predict", server.grpc_url, *arguments)
    over_rest = run("predict", server.rest_url, *arguments)
    one_error(over_grpc, 1, *named)
    one_error(over_rest, 1, *named)


def test_a_good_call_prints_json(server: RunningServer) -> None:
    """The same command with good input gives the outputs."""
    done = run("predict", server.grpc_url, "half_plus_two", "--input=[1.0, 2.0]", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["y"] == [2.5, 3.0]


def test_an_unknown_command_names_the_nearest() -> None:
    """A slip of the pen is answered with what was probably meant."""
    one_error(run("exprot", "model.h5"), 2, "export")

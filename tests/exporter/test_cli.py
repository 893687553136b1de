"""`tfbundle export` from the command line's side: options, stdout, stderr, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from tests.exporter.zoo import many, rows, sequential
from tfbundle_exporter.cli import main
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path


@pytest.fixture
def file(keras: Any, tmp_path: Path) -> str:
    """A model file."""
    sequential(keras).model.save(tmp_path / "digits.h5")
    return str(tmp_path / "digits.h5")


def test_as_a_user_runs_it(file: str, tmp_path: Path) -> None:
    """The number alone is on stdout, one line a step on stderr, and no noise of TensorFlow's on either."""
    command = [sys.executable, "-m", "tfbundle", "export", file, str(tmp_path / "models" / "digits")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("read digits.h5 (HDF5 model, Keras 3.")
    assert lines[-1] == f"published version 1: {tmp_path}/models/digits/1"
    assert len(lines) == 8, done.stderr


def test_json(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints version, path and metadata; --quiet says nothing else."""
    assert main(["export", file, str(tmp_path / "m"), "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert printed.err == ""
    assert content["version"] == 1
    assert content["path"] == str(tmp_path / "m" / "1")
    assert content["metadata"] == json.loads((tmp_path / "m/1/metadata.json").read_text())


def test_all_options(keras: Any, tmp_path: Path) -> None:
    """Each option arrives where it belongs."""
    many(keras).model.save(tmp_path / "many.keras")
    np.savez(tmp_path / "x.npz", left=rows(3), second=np.ones((5, 2), np.int32))
    (tmp_path / "about.json").write_text('{"data": {"dataset_id": "d"}, "owner": "Ada"}')
    base = tmp_path / "m"
    arguments = [
        *("export", str(tmp_path / "many.keras"), str(base), "--examples", str(tmp_path / "x.npz")),
        *("--input=second=right", "--output", "score=p", "--signature=predict", "--version=7"),
        *("--metadata", str(tmp_path / "about.json"), "--notes=a try", "--seed=3"),
    ]
    assert main(arguments) == 0
    metadata = json.loads((base / "7/metadata.json").read_text())
    assert metadata["signatures"]["predict"]["inputs"].keys() == {"left", "second"}
    assert metadata["signatures"]["predict"]["outputs"].keys() == {"score", "q"}
    assert (metadata["data"], metadata["user"], metadata["notes"]) == ({"dataset_id": "d"}, {"owner": "Ada"}, "a try")
    np.testing.assert_array_equal(read_golden(golden_path(base / "7"))["predict"].inputs["left"], rows(3))


def test_log_lines_are_not_said_twice(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The handler is taken away again after each run."""
    for _ in range(2):
        main(["export", file, str(tmp_path / "m")])
    assert capsys.readouterr().err.count("published version") == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Missing argument 'SOURCE'"),
        (["a"], "Missing argument 'BASE_PATH'"),
        (["a", "b", "--input=x"], "expected NAME=LAYER, got 'x'"),
        (["a", "b", "--input=x=l", "--input=x=r"], "two are called 'x': l and r"),
        (["a", "b", "--version=one"], "is not a valid integer"),
        (["a", "b", "--metadata=/no/such.json"], "No such file"),
        (["a", "b", "--exmaples=x"], "No such option"),
    ],
)
def test_misuse(arguments: list[str], expected: str) -> None:
    """A wrong command line is a UsageError, which the roof turns into exit code 2."""
    with pytest.raises(click.UsageError) as caught:
        main(["export", *arguments])
    assert expected in caught.value.format_message()


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_metadata_file_that_is_no_object(content: str, tmp_path: Path) -> None:
    """What the file holds is said."""
    (tmp_path / "about.json").write_text(content)
    with pytest.raises(click.UsageError, match=r"about\.json"):
        main(["export", "a", "b", "--metadata", str(tmp_path / "about.json")])


def test_failures_are_raised(tmp_path: Path) -> None:
    """Errors leave the room as they are; the roof says them."""
    with pytest.raises(ExportError, match="there is no such file"):
        main(["export", str(tmp_path / "none.h5"), str(tmp_path / "m")])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help is no failure."""
    assert main(["export", "--help"]) == 0
    assert "BASE_PATH" in capsys.readouterr().out

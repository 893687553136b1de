"""Exports as people ask for them: by the command line or by the function, with the same options."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests import nursery
from tfbundle_exporter import export_model

#: Exports a source below a base path, with options as export_model names them; returns the number of the version.
Export = Callable[..., int]


def run(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the `tfbundle` command as a user does who stands in a folder."""
    return nursery.run([*map(str, arguments)], {"TF_CPP_MIN_LOG_LEVEL": "3"}, folder=folder)


def succeed(*arguments: object, folder: Path | None = None) -> str:
    """Run the command, which must succeed; return what it printed."""
    done = run(*arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fail(*arguments: object, folder: Path | None = None, code: int = 1) -> str:
    """Run the command, which must fail with one line that begins with "error:"; return that line."""
    done = run(*arguments, folder=folder)
    assert done.returncode == code, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


def by_command(source: Path | str, base_path: Path, *, folder: Path | None = None, **options: Any) -> int:
    """Export by `tfbundle export`."""
    with tempfile.TemporaryDirectory() as scratch:
        words = [word for name, value in options.items() for word in _words(name, value, Path(scratch))]
        return int(succeed("export", source, base_path, "--quiet", *words, folder=folder))


def by_python(source: Any, base_path: Path, **options: Any) -> int:
    """Export by `export_model`."""
    return export_model(source, base_path, **options).version


def _words(name: str, value: Any, scratch: Path) -> list[str]:
    """Say an argument of export_model on the command line."""
    if name == "example_inputs":
        np.save(scratch / "examples.npy", value)
        return ["--examples", str(scratch / "examples.npy")]
    if name == "metadata":
        (scratch / "metadata.json").write_text(json.dumps(value))
        return ["--metadata", str(scratch / "metadata.json")]
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, str(value)]

"""`tfbundle demo`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from tfbundle_serving.apis.errors import BundleError

#: Marks a folder as the demo's own, which a later run may clear.
MARKER = ".tfbundle-demo"


@click.group()
def commands() -> None:
    """Hold the demo's one command."""


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"))
def demo(folder: Path) -> None:
    """Train, export, serve, call, compare and roll out a model of handwritten digits.

    Everything is written below FOLDER (default: ./demo), which a later run clears first.
    """
    _check_installed()
    from .story import run

    run(_prepare(folder))


def _check_installed() -> None:
    """Find now what the demo's processes would stumble over later.

    Raises:
        ModuleNotFoundError: A module is missing; the roof says how to install it.
    """
    for name in ("tensorflow", "keras", "h5py", "sklearn", "uvicorn", "httptools"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _prepare(folder: Path) -> Path:
    """Make the folder, cleared if an earlier demo made it.

    Raises:
        BundleError: It holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise BundleError(
                f"{folder} holds files that no earlier demo wrote; give another folder: tfbundle demo FOLDER"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    return folder


def main(argv: Sequence[str]) -> int:
    """Run the command; see `tfbundle.cli`."""
    commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False)
    return 0

"""`tfbundle inspect | diff | verify | doctor | restore`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import click

from tfbundle_serving.apis.errors import BundleError

from ..talk import talk


class _CouldNotCompare(click.ClickException):
    """Neither the same nor different: told from both by the exit code."""

    exit_code = 2


class _Report(Protocol):
    """What all of them give."""

    def to_json(self) -> dict[str, Any]: ...
    def to_text(self) -> str: ...


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def main(argv: Sequence[str]) -> int:
    """Run one of the commands.

    Args:
        argv: The command's name and its arguments.

    Returns:
        The exit code; errors are raised.
    """
    return int(commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False) or 0)


@click.group()
def commands() -> None:
    """Read what is there: sources, version folders, models directories."""


def _print(report: _Report, *, as_json: bool) -> None:
    click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False) if as_json else report.to_text())


@commands.command("inspect")
@click.argument("source")
@click.option("--pick", default="", metavar="latest|best|epoch=N", help="Which checkpoint of a folder with several.")
@_json
def _inspect(source: str, *, pick: str, as_json: bool) -> None:
    """Show what SOURCE is: a model file, a SavedModel, a checkpoint, a version folder.

    Layers or signatures, weights with their figures and hashes, training configuration, security findings. Nothing of
    it is loaded or executed. BASE_PATH/TAG names a version by its tag.
    """
    from .inspection import inspect

    _print(inspect(source, pick=pick), as_json=as_json)


@commands.command("diff")
@click.argument("old")
@click.argument("new")
@_json
def _diff(old: str, new: str, *, as_json: bool) -> int:
    """Show what NEW differs in from OLD: graph, layers, signatures, weights; both are version folders or sources.

    Changes that break a client of OLD are marked. Exit code 0: the same. 1: different. 2: could not compare.
    """
    from .difference import diff

    try:
        difference = diff(old, new)
    except (BundleError, OSError) as error:
        raise _CouldNotCompare(str(error)) from error
    _print(difference, as_json=as_json)
    return 0 if difference.is_same else 1


@commands.command("verify")
@click.argument("version_folder")
@_json
def _verify(version_folder: str, *, as_json: bool) -> int:
    """Prove VERSION_FOLDER: its files by the hashes of metadata.json, its answers by golden.npz.

    BASE_PATH/TAG names a version by its tag.

    Exit code 0: proven. 1: it differs, or there is nothing to hold it against.
    """
    from .verification import verify

    with talk(wanted=True):
        verification = verify(version_folder)
    _print(verification, as_json=as_json)
    return 0 if verification.is_proven else 1


@commands.command("doctor")
@click.argument("models_dir", default="models")
@_json
def _doctor(models_dir: str, *, as_json: bool) -> int:
    """Look for what is wrong in MODELS_DIR [default: models], and say the command that mends it.

    Exit code 0: healthy, perhaps with warnings. 1: there are errors. Nothing is changed.
    """
    from .doctor import examine

    diagnosis = examine(models_dir)
    _print(diagnosis, as_json=as_json)
    return 0 if diagnosis.is_healthy else 1


@commands.command("restore")
@click.argument("version_folder")
@click.argument("out")
@_json
def _restore(version_folder: str, out: str, *, as_json: bool) -> None:
    """Give back the source of VERSION_FOLDER, kept by `tfbundle export --keep-source`, byte for byte, as OUT.

    BASE_PATH/TAG names a version by its tag. Nothing is overwritten.
    """
    from .restoring import restore

    _print(restore(version_folder, out), as_json=as_json)

"""`tfbundle export`: a model file becomes the next version folder."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE


def main(argv: Sequence[str]) -> int:
    """Run the room's sub-command.

    Args:
        argv: The sub-command's name and its arguments.

    Returns:
        The exit code; errors are raised.
    """
    return int(_commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False) or 0)


@click.group()
def _commands() -> None:
    """Turn models into version folders."""


def _names(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    names: dict[str, str] = {}
    for value in values:
        name, separator, layer = value.partition("=")
        if not separator or not name or not layer:
            raise click.BadParameter(f"expected NAME=LAYER, got {value!r}", param=parameter)
        names[name] = layer
    return names


@_commands.command("export")
@click.argument("source")
@click.argument("base_path")
@click.option("--examples", metavar="FILE", help="Rows to prove the version on: .npy, or .npz with a member an input.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=LAYER", callback=_names, help="Rename an input.")
@click.option("--output", "outputs", multiple=True, metavar="NAME=LAYER", callback=_names, help="Rename an output.")
@click.option(
    "--signature", default=DEFAULT_SIGNATURE, show_default=True, metavar="NAME", help="Name of the signature."
)
@click.option("--version", type=int, metavar="N", help="The version's number [default: the next free one].")
@click.option("--metadata", "metadata_file", metavar="FILE", help="JSON object to put into metadata.json.")
@click.option("--notes", metavar="TEXT", help="A remark to put into metadata.json.")
@click.option("--allow-unsafe", is_flag=True, help="Load a file even if it holds Python code. It will be run.")
@click.option("--seed", type=int, default=0, show_default=True, help="For drawing rows where no --examples are given.")
@click.option("--json", "as_json", is_flag=True, help="Print version, path and metadata as JSON.")
@click.option("--quiet", is_flag=True, help="Say nothing on the way.")
def _export(
    source: str,
    base_path: str,
    *,
    examples: str | None,
    inputs: dict[str, str],
    outputs: dict[str, str],
    signature: str,
    version: int | None,
    metadata_file: str | None,
    notes: str | None,
    allow_unsafe: bool,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Turn SOURCE (.h5, .hdf5 or .keras) into the next version below BASE_PATH and print its number.

    BASE_PATH is the folder that holds the model's versions, such as models/digits. The version appears there all at
    once, after it was loaded back and found to answer like SOURCE.
    """
    from .pipeline import export_model
    from .proof.example_inputs import read_examples

    metadata = _read_metadata(metadata_file)
    if notes is not None:
        metadata["notes"] = notes
    with _talk(not quiet):
        exported = export_model(
            source,
            base_path,
            example_inputs=None if examples is None else read_examples(examples),
            input_names=inputs,
            output_names=outputs,
            signature=signature,
            version=version,
            metadata=metadata,
            allow_unsafe=allow_unsafe,
            seed=seed,
        )
    if as_json:
        content = {"version": exported.version, "path": str(exported.path), "metadata": exported.metadata}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        click.echo(exported.version)
    return 0


def _read_metadata(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise click.UsageError(f"--metadata {path}: {error.strerror}") from error
    except ValueError as error:
        raise click.UsageError(f"--metadata {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise click.UsageError(f"--metadata {path} holds a JSON {type(content).__name__}, expected an object")
    return content


@contextmanager
def _talk(wanted: bool) -> Iterator[None]:
    """Show the exporter's log lines on stderr while it works."""
    logger = logging.getLogger(__package__)
    handler = logging.StreamHandler(sys.stderr)
    level, propagates = logger.level, logger.propagate
    # TensorFlow may have given the root logger a handler of its own, which would say everything once more.
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if wanted else logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagates
        logger.removeHandler(handler)

"""`tfbundle export`: whatever holds a model becomes the next version folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE

from .settings import ALLOWANCES, PICKS
from .talk import talk


def _names(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    names: dict[str, str] = {}
    for value in values:
        name, separator, layer = value.partition("=")
        if not separator or not name or not layer:
            raise click.BadParameter(f"expected NAME=LAYER, got {value!r}", param=parameter)
        if name in names:
            raise click.BadParameter(f"two are called {name!r}: {names[name]} and {layer}", param=parameter)
        names[name] = layer
    return names


_SOURCE = (
    click.option("--architecture", metavar="WHAT", help="What weights belong to: a .json or .yaml, or module:factory."),
    click.option("--pick", default="", metavar="WHICH", help=f"Which checkpoint of a folder: {PICKS}."),
    click.option(
        "--custom-objects", multiple=True, metavar="MODULE[:NAME]", help="Where layers of its own are; repeatable."
    ),
    click.option("--recurrent-activation", default="", metavar="NAME", help="For recurrent weights that do not say."),
    click.option("--keras", type=click.Choice(["2", "3"]), help="The Keras of an architecture, where nothing tells."),
    click.option("--allow-unsafe", is_flag=True, help="Load a file even if it holds Python code. It will be run."),
    click.option("--keep-source", is_flag=True, help="Put the source, optimizer and all, into the version."),
)
_SIGNATURES = (
    click.option(
        "--input", "input_names", multiple=True, metavar="NAME=LAYER", callback=_names, help="Rename an input."
    ),
    click.option(
        "--output", "output_names", multiple=True, metavar="NAME=LAYER", callback=_names, help="Rename an output."
    ),
    click.option(
        "--names",
        type=click.Choice(["layers", "keras2"]),
        default="layers",
        show_default=True,
        help="What the others are called: as the layers, or as Keras 2's model.save did.",
    ),
    click.option(
        "--signature", default=DEFAULT_SIGNATURE, show_default=True, metavar="NAME", help="Name of the signature."
    ),
    click.option(
        "--with",
        "ready",
        multiple=True,
        metavar="KIND[:SETTING=VALUE,...]",
        help="Add a ready-made signature: image, example, classify, regress or raw; repeatable.",
    ),
    click.option("--labels", metavar="FILE", help="Add the signature top_k: the best classes by these names."),
    click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, help="How many of them."),
    click.option("--cast-outputs", is_flag=True, help="Give half precision outputs as float32."),
)
_PROOF = (
    click.option("--examples", metavar="FILE", help="Rows to prove it on: .npy, or .npz with a member an input."),
    click.option("--warmup", metavar="FILE", help="Warm up with these recorded requests (`serve --record`)."),
    click.option("--seed", type=int, default=0, show_default=True, help="For drawing rows where none are given."),
    click.option(
        "--allow", multiple=True, type=click.Choice(ALLOWANCES), help="Let pass and mark in metadata.json; repeatable."
    ),
    click.option(
        "--gate",
        type=click.Choice(["local", "serve"]),
        default="local",
        show_default=True,
        help="serve: also start a server on the version and compare over the wire.",
    ),
    click.option(
        "--server-cmd",
        "server_command",
        default="",
        metavar="COMMAND",
        help="That server, with {model_name} {base_path} {port} {rest_port} [default: tfbundle serve].",
    ),
)
_VERSION = (
    click.option("--version", type=int, metavar="N", help="The version's number [default: the next free one]."),
    click.option("--tag", metavar="NAME", help="Another name for it, such as 1.4.0."),
    click.option("--created-at", metavar="TIME", help="Stands in metadata.json instead of the clock's time."),
    click.option("--metadata", "metadata_file", metavar="FILE", help="JSON object to put into metadata.json."),
    click.option("--notes", metavar="TEXT", help="A remark to put into metadata.json."),
)
_TALK = (
    click.option("--json", "as_json", is_flag=True, help="Print version, path and metadata as JSON."),
    click.option("--quiet", is_flag=True, help="Say nothing on the way."),
)


def _all_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((*_SOURCE, *_SIGNATURES, *_PROOF, *_VERSION, *_TALK)):
        command = option(command)
    return command


@click.command()
@click.argument("source")
@click.argument("base_path")
@_all_options
def export(source: str, base_path: str, *, as_json: bool, quiet: bool, **options: Any) -> int:
    """Turn SOURCE into the next version below BASE_PATH and print its number.

    SOURCE is an .h5, .hdf5 or .keras file, a SavedModel folder, weights or a checkpoint with --architecture, or a
    folder of checkpoints with --pick. BASE_PATH is the folder that holds the model's versions, such as models/digits.
    The version appears there all at once, after it was loaded back and found to answer like SOURCE.
    """
    from .pipeline import export_model
    from .proof.example_inputs import read_examples

    examples = options.pop("examples")
    ready = _ready_made(options.pop("ready"), labels=options.pop("labels"), top_k=options.pop("top_k"))
    metadata = _read_metadata(options.pop("metadata_file"), options.pop("notes"))
    keras: Any = options.pop("keras") or ""
    with talk(wanted=not quiet):
        exported = export_model(
            source,
            base_path,
            example_inputs=None if examples is None else read_examples(examples),
            ready=ready,
            metadata=metadata,
            keras=keras,
            **options,
        )
    if as_json:
        content = {"version": exported.version, "path": str(exported.path), "metadata": exported.metadata}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        click.echo(exported.version)
    return 0


def _ready_made(kinds: tuple[str, ...], *, labels: str | None, top_k: int) -> list[Any]:
    from .signatures.ready_made import parse_ready_made
    from .signatures.top_k import Labels

    ready: list[Any] = [parse_ready_made(kind) for kind in kinds]
    return ready if labels is None else [*ready, Labels(labels=labels, top_k=top_k)]


def _read_metadata(path: str | None, notes: str | None) -> dict[str, Any]:
    content: Any = {}
    if path is not None:
        try:
            content = json.loads(Path(path).read_bytes())
        except OSError as error:
            raise click.UsageError(f"--metadata {path}: {error.strerror}") from error
        except ValueError as error:
            raise click.UsageError(f"--metadata {path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise click.UsageError(f"--metadata {path} holds a JSON {type(content).__name__}, expected an object")
    return content if notes is None else {**content, "notes": notes}

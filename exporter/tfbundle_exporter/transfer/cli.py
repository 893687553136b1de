"""`tfbundle push | pull`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..talk import talk
from .stores import StoreOptions

Function = TypeVar("Function", bound=Callable[..., Any])


def _read_options(_: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name:
            raise click.BadParameter(f"expected KEY=VALUE, got {pair!r}", param=parameter)
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


_STORE = (
    click.option("--endpoint-url", default="", metavar="URL", help="Where the S3 or Google service is, if elsewhere."),
    click.option(
        "--storage-option",
        "values",
        multiple=True,
        callback=_read_options,
        metavar="KEY=VALUE",
        help="An argument of the fsspec file system, such as anon=true; repeatable.",
    ),
    click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Files at once."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)


def _store_options(command: Function) -> Function:
    for option in reversed(_STORE):
        command = option(command)
    return command


@click.command("push")
@click.argument("version_folder")
@click.argument("destination", metavar="DEST")
@click.option("--verify", is_flag=True, help="Read back what the store gives no hash of.")
@_store_options
def push_command(
    version_folder: str,
    destination: str,
    *,
    verify: bool,
    endpoint_url: str,
    values: dict[str, Any],
    jobs: int,
    as_json: bool,
) -> None:
    """Bring VERSION_FOLDER to the base path DEST, under the number that it has.

    DEST is a directory, s3://bucket/models/digits, gs://bucket/models/digits or another URL that fsspec reaches;
    credentials come from the environment. The folder is held against metadata.json first, the graph is sent last, and
    what arrived is held against what was sent. A push that was broken off goes on; a whole version is never touched.
    """
    from .push import push

    with talk(wanted=True):
        pushed = push(
            version_folder,
            destination,
            options=StoreOptions(endpoint_url=endpoint_url, values=values),
            verify=verify,
            jobs=jobs,
        )
    _print(pushed, as_json=as_json)


@click.command("pull")
@click.argument("source")
@click.argument("base_path")
@click.option("--version", default="", metavar="NUMBER|TAG", help="Of a base path.  [default: the highest whole]")
@click.option("--allow-unverified", is_flag=True, help="Take a version that has no metadata.json, unproven.")
@click.option("--again", is_flag=True, help="Bring back a number that was here before and was removed.")
@click.option("--watch", type=click.FloatRange(0.1), metavar="SECONDS", help="Stay, look for newer ones this often.")
@_store_options
def pull_command(
    source: str,
    base_path: str,
    *,
    version: str,
    allow_unverified: bool,
    again: bool,
    watch: float | None,
    endpoint_url: str,
    values: dict[str, Any],
    jobs: int,
    as_json: bool,
) -> None:
    """Bring a version from SOURCE into BASE_PATH, whole, proven by its hashes, under the number that it has.

    SOURCE is a version, .../digits/7, or a base path, .../digits: a directory or a URL as for push. It appears by one
    rename, as an export does. What is there already, the same, is left as it is.
    """
    if watch is not None and version:
        raise click.UsageError("--watch looks for the highest version, --version names one: give one of the two")
    from .pull import pull

    proven: set[int] = set()

    def once() -> Any:
        return pull(
            source,
            base_path,
            version=version,
            options=StoreOptions(endpoint_url=endpoint_url, values=values),
            allow_unverified=allow_unverified,
            again=again,
            jobs=jobs,
            proven=proven,
        )

    if watch is None:
        with talk(wanted=True):
            arrived = once()
        _print_arrival(arrived, as_json=as_json)
        return
    from .watching import keep_watching

    def look() -> None:
        with talk(wanted=True):
            arrived = once()
        if arrived.number not in proven:
            proven.add(arrived.number)
            _print_arrival(arrived, as_json=as_json)

    keep_watching(look, every_s=watch)


def _print_arrival(arrived: Any, *, as_json: bool) -> None:
    if arrived.left_out:
        print(f"left out, because metadata.json does not name them: {', '.join(arrived.left_out)}", file=sys.stderr)
    _print(arrived, as_json=as_json)


def _print(result: Any, *, as_json: bool) -> None:
    click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False) if as_json else result.to_text())
    sys.stdout.flush()

"""`tfbundle versions`: a model's versions, where they come from, what is served and what labels mean them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from tfbundle_serving.apis.errors import BundleError, NotFound
from tfbundle_serving.apis.models_config_edit import find_model
from tfbundle_serving.apis.version_folder import list_versions

from ..client import Client
from ..rollout.config_file import DEFAULT_PLACES, find_config, read_config
from .options import Access, access_of, access_options, json_option, timeout_option
from .output import print_json
from .size import show_bytes
from .tables import print_table
from .version_list import Version, read_versions

_EXPECTED = "a base path, the folder of one model's versions: models/digits with models/digits/1 in it"
_SOURCE_WIDTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    Attributes:
        title: Its title.
        show: Gives its cell.
        importance: The least important ones are left out first where the terminal is too narrow.
    """

    title: str
    show: Callable[[Version], str]
    importance: int


_COLUMNS = (
    Column(title="version", show=lambda each: str(each.number), importance=9),
    Column(title="tag", show=lambda each: each.tag or "", importance=5),
    Column(title="labels", show=lambda each: ", ".join(each.labels), importance=8),
    Column(title="created", show=lambda each: each.created_at or "", importance=4),
    Column(title="size", show=lambda each: "" if each.bytes is None else show_bytes(each.bytes), importance=3),
    Column(title="source", show=lambda each: _shorten(each.source or ""), importance=1),
    Column(
        title="graph",
        show=lambda each: {True: "same", False: "changed", None: ""}[each.same_graph],
        importance=2,
    ),
    Column(
        title="max abs diff",
        show=lambda each: "" if each.max_abs_diff is None else f"{each.max_abs_diff:.3g}",
        importance=4,
    ),
)
_REMARK = Column(
    title="remark", show=lambda each: each.trouble or ("" if each.is_there else "its folder is gone"), importance=6
)


@click.command()
@click.argument("base_path", type=click.Path(path_type=Path))
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="URL",
    help="Ask this server for their states, grpc://host:port or http://host:port; repeatable.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The models.config, for labels.  [default: models.config or serving/models.config, if it has the model]",
)
@click.option("--model", default="", help="What the server calls the model.  [default: the base path's name]")
@timeout_option("Seconds to wait for the server's answer.")
@access_options
@json_option
def versions(
    base_path: Path,
    servers: tuple[str, ...],
    config: Path | None,
    model: str,
    timeout: float,
    access: Access,
    as_json: bool,
) -> None:
    """List the versions below BASE_PATH: when and from what they were made, what is served, what labels mean them.

    "graph" tells whether a version computes by the same graph as the one before, with other weights at most.
    """
    name = model or base_path.resolve().name
    labels, unknown = _read_labels(config, name)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(each, timeout=timeout, **access_of(each, access, servers))) for each in servers
        ]
        try:
            found = read_versions(base_path, clients, name, labels=labels)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{base_path} is no folder; expected {_EXPECTED}", attempts=0) from error
    if not found:
        raise NotFound(f"there is no version folder in {base_path}; {base_paths_in(base_path)}", attempts=0)
    if unknown:
        print(unknown, file=sys.stderr)
    if as_json:
        print_json(
            {
                "model": name,
                "base_path": str(base_path),
                "server": servers[0] if servers else None,
                "servers": list(servers),
                "versions": [version.to_json() for version in found],
            }
        )
        return
    columns, rows = lay_out(found, servers, _width())
    where = f", served at {', '.join(servers)}" if servers else ""
    print_table(f"{name} in {base_path}{where}", columns, rows)


def _read_labels(config: Path | None, model: str) -> tuple[dict[str, int], str]:
    """Read the labels of a model; a models.config that nobody named may be of others.

    Returns:
        Version label to version, and why they are not known, "" where they are.
    """
    if config is not None:
        return dict(find_model(read_config(find_config(config)).read_models(), model, config).labels), ""
    found = next((place for place in DEFAULT_PLACES if place.is_file()), None)
    if found is None:
        return {}, "no models.config was read (--config), so that labels are not known"
    try:
        entries = read_config(found).read_models()
    except BundleError as error:
        return {}, f"labels are not known: {error}"
    labels = next((dict(each.labels) for each in entries if each.name == model), None)
    if labels is None:
        return {}, f"{found} has no model {model} (--model), so that labels are not known"
    return labels, ""


def _width() -> int | None:
    """Give the columns of the terminal; None where the table goes elsewhere, and any width will do."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def lay_out(
    versions: Sequence[Version], servers: Sequence[str], width: int | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Choose the columns of the table, and fill it.

    Columns in which nothing stands are left out; where the rest does not fit, the least important ones go.

    Args:
        versions: The rows.
        servers: The addresses that were asked.
        width: Characters in a line; None means any number.

    Returns:
        Titles and rows.
    """
    columns = [*_COLUMNS, *_state_columns(servers), _REMARK]
    table = {each: [each.show(version) for version in versions] for each in columns}
    kept = [each for each in columns if any(table[each])]
    while width is not None and len(kept) > 2 and _total(kept, table) > width:
        kept.remove(min(kept, key=lambda each: each.importance))
    rows = list(zip(*([cell or "-" for cell in table[each]] for each in kept), strict=True))
    if kept[-1] is _REMARK:
        rows = [(*row[:-1], "" if row[-1] == "-" else row[-1]) for row in rows]
    return tuple(each.title for each in kept), rows


def _state_columns(servers: Sequence[str]) -> list[Column]:
    def show(server: str) -> Callable[[Version], str]:
        return lambda version: version.states.get(server, "")

    titles = ["state"] if len(servers) == 1 else [f"at {server.partition('://')[2]}" for server in servers]
    return [Column(title=title, show=show(url), importance=7) for title, url in zip(titles, servers, strict=True)]


def _total(columns: Sequence[Column], table: dict[Column, list[str]]) -> int:
    """Add up the widths, with the lines and spaces that a terminal's table has between them."""
    # A remark may take several lines; it has to be readable, not on one.
    widths = [
        min(30, max(map(len, table[each]))) if each is _REMARK else max(len(each.title), *map(len, table[each]))
        for each in columns
    ]
    return sum(widths) + 3 * len(widths) + 1


def _shorten(source: str) -> str:
    """Cut a long name in front: its end tells more."""
    return source if len(source) <= _SOURCE_WIDTH else f"...{source[3 - _SOURCE_WIDTH :]}"


def base_paths_in(folder: Path) -> str:
    """Say which base paths there are in a folder that is none, or what is expected."""
    names = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and list_versions(each)]
    return f"these in it have some: {', '.join(names)}" if names else f"expected {_EXPECTED}"

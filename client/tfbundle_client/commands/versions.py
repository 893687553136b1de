"""`tfbundle versions`: a model's versions by number and tag, where they come from, and whether they are served."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.version_folder import list_versions

from ..client import Client
from .options import Access, access_options, json_option, timeout_option
from .output import print_json
from .tables import print_table
from .version_list import Version, read_versions

_EXPECTED = "a base path, the folder of one model's versions: models/digits with models/digits/1 in it"


@click.command()
@click.argument("base_path", type=click.Path(path_type=Path))
@click.option("--server", metavar="URL", help="Ask this server for their states, grpc://host:port or http://host:port.")
@click.option("--model", default="", help="What the server calls the model.  [default: the base path's name]")
@timeout_option("Seconds to wait for the server's answer.")
@access_options
@json_option
def versions(base_path: Path, server: str | None, model: str, timeout: float, access: Access, as_json: bool) -> None:
    """List the versions below BASE_PATH: number, tag, when and from what they were made, how near to it they are."""
    name = model or base_path.resolve().name
    with ExitStack() as stack:
        client = None if server is None else stack.enter_context(Client(server, timeout=timeout, **access))
        try:
            found = read_versions(base_path, client, name)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{base_path} is no folder; expected {_EXPECTED}", attempts=0) from error
    if not found:
        raise NotFound(f"there is no version folder in {base_path}; {_base_paths_in(base_path)}", attempts=0)
    if as_json:
        print_json(
            {
                "model": name,
                "base_path": str(base_path),
                "server": server,
                "versions": [version.to_json() for version in found],
            }
        )
        return
    columns = ("version", "tag", "created", "source", "max abs diff", *(("state",) if server else ()), "remark")
    print_table(
        f"{name} in {base_path}{f', served at {server}' if server else ''}",
        columns,
        [_row(version, served=server is not None) for version in found],
    )


def _base_paths_in(folder: Path) -> str:
    names = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and list_versions(each)]
    return f"these in it have some: {', '.join(names)}" if names else f"expected {_EXPECTED}"


def _row(version: Version, *, served: bool) -> tuple[str, ...]:
    difference = "-" if version.max_abs_diff is None else f"{version.max_abs_diff:.3g}"
    return (
        str(version.number),
        version.tag or "-",
        version.created_at or "-",
        version.source or "-",
        difference,
        *((version.state or "-",) if served else ()),
        version.trouble or ("" if version.is_there else "its folder is gone"),
    )

"""--version: a number, or a tag that the version folders' metadata.json tell the number of."""

from __future__ import annotations

from pathlib import Path

import click

from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.version_folder import find_version, parse_version

version_option = click.option(
    "--version",
    metavar="NUMBER|TAG",
    help="A version number, or a tag (with --base-path); by default the highest that is AVAILABLE.",
)
base_path_option = click.option(
    "--base-path", type=click.Path(path_type=Path), help="Where the model's versions are, to find the one of a tag."
)


def read_version(version: str | None, base_path: Path | None, option: str = "--version") -> int | None:
    """Find the number that --version means; servers know numbers only.

    Args:
        version: What was given: a number, a tag, or nothing.
        base_path: The folder of the model's versions, where one was given.
        option: How the option is called.

    Raises:
        click.UsageError: A tag was given and nothing to find its number by.
        NotFound: No version bears the tag, or the base path is missing.
    """
    if version is None:
        return None
    number = parse_version(version)
    if number is not None:
        return number
    if base_path is None:
        raise click.UsageError(
            f"{option} {version} is a tag, and servers know numbers only: "
            "say where the versions are, --base-path models/MODEL"
        )
    try:
        return find_version(base_path, version)[0]
    except OSError as error:
        raise NotFound(f"--base-path {base_path} cannot be read: {error.strerror or error}") from error

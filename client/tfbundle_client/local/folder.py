"""Which models and versions a folder on this machine has, for `Client("local:...")`.

    local:models             a models folder: every child that is a base path is a model
    local:models/digits      a base path: the model `digits`, all its versions, the highest by default
    local:models/digits/3    a version folder: the model `digits`, version 3 alone
    local:saved/net          a SavedModel in no base path: the model `net`, version 1

The folder is looked at anew for each call, so that a version that is exported meanwhile is found as a server finds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.version_folder import SAVED_MODEL, list_versions, parse_version

Versions = Mapping[int, Path]


def find_models(path: str | os.PathLike[str]) -> dict[str, Versions]:
    """List the models of a folder, each with its versions, lowest first.

    Args:
        path: A version folder, a base path, a models folder, or any SavedModel.

    Raises:
        NotFound: It is none of these; the message says what was expected.
    """
    folder = Path(path).absolute()
    if folder.name == "..":
        folder = folder.resolve()
    try:
        if (folder / SAVED_MODEL).is_file():
            number = parse_version(folder.name)
            return {folder.name: {1: folder}} if number is None else {folder.parent.name: {number: folder}}
        versions = _complete_versions(folder)
        if versions:
            return {folder.name: versions}
        models = {child.name: _complete_versions(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    except OSError as error:
        raise NotFound(f"no models at {path}: {error.strerror or error}", attempts=0) from error
    found: dict[str, Versions] = {name: each for name, each in models.items() if each}
    if not found:
        raise NotFound(
            f"no models at {path}: expected a version folder (with {SAVED_MODEL} in it), a folder of versions "
            f"({Path(path, '1', SAVED_MODEL)}) or a folder of such folders",
            attempts=0,
        )
    return found


def _complete_versions(base_path: Path) -> dict[int, Path]:
    """List the versions that hold a SavedModel; one that is still being written has none yet."""
    return {number: each for number, each in list_versions(base_path).items() if (each / SAVED_MODEL).is_file()}

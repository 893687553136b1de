"""What people point at: a version folder by its number or by its tag, a base path, a file."""

from __future__ import annotations

import os
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError, NotFound
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL, find_version, list_versions

#: What makes a folder a SavedModel.
GRAPHS = (SAVED_MODEL, "saved_model.pbtxt")


def is_saved_model(folder: Path) -> bool:
    """Tell whether a folder holds a SavedModel's graph."""
    return any((folder / name).is_file() for name in GRAPHS)


def find_place(path: str | os.PathLike[str]) -> Path:
    """Find what a path means: models/digits/1.4.0 is the version of models/digits that bears the tag 1.4.0.

    Returns:
        The path itself, unless there is nothing there and its last part is a tag.

    Raises:
        ExportError: There is nothing there beside versions, none of which bears it as a tag; the message lists them.
    """
    path = Path(path)
    if not path.name:
        return path
    is_prefix = path.with_name(f"{path.name}.index").exists()  # of a checkpoint
    if os.path.lexists(path) or is_prefix or not path.parent.is_dir():
        return path
    try:
        return find_version(path.parent, path.name)[1]
    except OSError:
        return path
    except NotFound as error:
        if list_versions(path.parent):
            raise ExportError(f"{path} is not there: {error.message}") from error
        return path


def version_folder(path: str | os.PathLike[str]) -> Path:
    """Find a version folder.

    Raises:
        ExportError: It is not there, is a file, or a base path; the message names the folder to give instead.
    """
    place = find_place(path)
    if not place.exists():
        raise ExportError(
            f"{place} is not there; expected a version folder such as models/digits/3, "
            "or the base path and a tag, models/digits/1.4.0"
        )
    if not place.is_dir():
        raise ExportError(f"{place} is a file; expected a version folder such as models/digits/3")
    if is_saved_model(place) or (place / METADATA).exists():
        return place
    versions = {number: folder for number, folder in list_versions(place).items() if folder.is_dir()}
    if versions:
        raise ExportError(
            f"{place} is a base path with {len(versions)} version(s), not one of them: "
            f"name the version, such as the newest, {versions[max(versions)]}"
        )
    raise ExportError(f"{place} is no version folder: it has neither {SAVED_MODEL} nor {METADATA}")

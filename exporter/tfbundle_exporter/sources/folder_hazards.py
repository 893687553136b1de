"""What in a folder leads out of it, or should not be in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .artefacts import Artefact
from .findings import Finding, is_pickle


def find_folder_hazards(artefact: Artefact) -> Iterator[Finding]:
    """Find links that lead out of a folder's files, and pickles among them."""
    root = Path(os.path.realpath(artefact.root))
    for path in artefact.files:
        place = f"{artefact.root.name}, file {path.relative_to(artefact.root).as_posix()!r}"
        target = Path(os.path.realpath(path))
        if path.is_symlink() and not target.is_relative_to(root):
            yield Finding(place, f"is a link to {os.readlink(path)!r}, outside of the folder")  # noqa: PTH115  # as written
        elif path.is_file():
            with path.open("rb") as file:
                if is_pickle(file.read(16)):
                    yield Finding(place, "is a pickle, which runs code when it is read")
        elif not path.is_symlink():
            yield Finding(place, "is a pipe or a device")

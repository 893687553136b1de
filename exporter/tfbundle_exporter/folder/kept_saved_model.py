"""A SavedModel is published as it is: copied byte for byte, with its assets and its own warm-up."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import GOLDEN, METADATA

#: What an earlier export of ours wrote about itself; this export writes its own.
_OURS = frozenset({METADATA, GOLDEN})


def keep_saved_model(source: Path, folder: Path) -> None:
    """Copy a SavedModel.

    Args:
        source: Its folder. Every file in it comes along but metadata.json and golden.npz of an earlier export.
        folder: Where to; it is made.

    Raises:
        ExportError: It holds a link, a device or the like; the message names it. Nothing was copied.
        OSError: The file system refused.
    """
    files = [path for path in _files(source) if path.relative_to(source).as_posix() not in _OURS]
    folder.mkdir(parents=True, exist_ok=True)
    for path in _folders(source):
        (folder / path.relative_to(source)).mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.relative_to(source), follow_symlinks=False)


def _folders(source: Path) -> list[Path]:
    # TensorFlow makes `assets` even where it is empty; it is kept as it was.
    return [Path(root, name) for root, names, _ in os.walk(source) for name in sorted(names)]


def _files(source: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(source):
        for path in (Path(root, name) for name in sorted([*folders, *files])):
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.append(path)
            elif not stat.S_ISDIR(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "no ordinary file"
                raise ExportError(
                    f"{source}: {path.relative_to(source)} is {kind}; a version must hold what it serves: "
                    "put a copy of the file in its place"
                )
    return found

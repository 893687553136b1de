"""Whether a version folder has changed: a cheap look at names, sizes and times."""

from __future__ import annotations

import os
from pathlib import Path

#: Path below the folder, size and modification time of everything in it; empty where there is no folder.
Stamp = tuple[tuple[str, int, int], ...]


def folder_stamp(folder: Path) -> Stamp:
    """Take the stamp of a folder; two are equal as long as nothing in it was written, added or removed."""
    found = []
    for parent, _, names in os.walk(folder):
        for name in ("", *names):
            path = os.path.join(parent, name)  # noqa: PTH118  # os.walk's own kind of path, thousands of them
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                continue  # removed between the listing and this look
            found.append((os.path.relpath(path, folder), status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))

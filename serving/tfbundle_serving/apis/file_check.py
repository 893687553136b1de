"""The files of a version folder against what metadata.json says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .version_folder import METADATA


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """The files of a version folder against what metadata.json says of them.

    Attributes:
        checked: How many are as they were.
        missing: Those that are gone, relative to the folder.
        changed: Those with another content.
        extra: Those that were not there.
    """

    checked: int
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether all are as they were."""
        return not (self.missing or self.changed or self.extra)


def check_files(folder: Path, hashes: Mapping[str, str]) -> FileCheck:
    """Hash every file of a version folder but metadata.json.

    Args:
        folder: The version folder.
        hashes: The SHA-256 of each file, by its name relative to the folder.

    Raises:
        OSError: A file cannot be read.
    """
    there = {path.relative_to(folder).as_posix(): path for path in files_below(folder) if path != folder / METADATA}
    changed = [name for name in hashes if name in there and _hash(there[name]) != hashes[name]]
    missing = [name for name in hashes if name not in there]
    return FileCheck(
        checked=len(hashes) - len(changed) - len(missing),
        missing=tuple(missing),
        changed=tuple(changed),
        extra=tuple(name for name in there if name not in hashes),
    )


def files_below(folder: Path) -> tuple[Path, ...]:
    """List the files of a folder and its sub-folders, sorted; links to folders are listed, not followed."""
    return tuple(sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()))


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hash(path: Path) -> str:
    """Hash a file; a link that leads nowhere has another content, and so has a pipe."""
    return sha256_of(path) if path.is_file() else ""

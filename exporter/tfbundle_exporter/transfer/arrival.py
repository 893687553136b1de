"""A version from elsewhere comes into a base path: staged, held against its hashes, renamed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import check_files, files_below, sha256_of
from tfbundle_serving.apis.version_folder import METADATA, list_versions

from ..progress import begin
from ..publishing.base_path import check_base_path, check_free, check_free_space, staging_folder
from ..publishing.disk_errors import writing_to
from ..publishing.publish import publish
from ..sources.places import GRAPHS
from .checksums import Entry
from .manifest import Manifest
from .names import check_names
from .progress import open_progress
from .stores import Store
from .workers import do_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteVersion:
    """A version folder in a store.

    Attributes:
        store: The folder.
        number: The version's number.
        entries: Its files.
        manifest: What its metadata.json says; None where it has none.
    """

    store: Store
    number: int
    entries: Mapping[str, Entry]
    manifest: Manifest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A version that is in a base path now.

    Attributes:
        source: Where it is from.
        folder: Its folder.
        number: Its number.
        files: How many files.
        size: In bytes.
        was_there: Whether it was there before, the same.
        is_verified: Whether metadata.json told what the files must be.
        left_out: Files of the store that are not the version's.
    """

    source: str
    folder: Path
    number: int
    files: int
    size: int
    was_there: bool
    is_verified: bool
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "source": self.source,
            "folder": str(self.folder),
            "version": self.number,
            "files": self.files,
            "bytes": self.size,
            "already_there": self.was_there,
            "verified": self.is_verified,
            "left_out": list(self.left_out),
        }

    def to_text(self) -> str:
        """Give it for a person."""
        proof = "by the hashes of metadata.json" if self.is_verified else "by nothing: it has no metadata.json"
        if self.was_there:
            return f"{self.folder}: already there, the same as {self.source} (compared {proof})"
        return f"{self.folder}: {self.files} files, {self.size / 1e6:.1f} MB from {self.source} (verified {proof})"


def check_whole(version: RemoteVersion, *, allow_unverified: bool) -> None:
    """Refuse a version before anything of it is copied.

    Raises:
        ExportError: It is half there, has no metadata.json, or has names that lead elsewhere.
    """
    address = version.store.address
    if set(version.entries).isdisjoint(GRAPHS):
        raise ExportError(
            f"{address} has no {GRAPHS[0]}: {'a push may be under way, or was broken off' if version.entries else ''}"
            f"{'' if version.entries else 'there is nothing'}; expected a whole version folder"
        )
    if version.manifest is None:
        if not allow_unverified:
            raise ExportError(
                f"{address} has no {METADATA}, so that nothing says what its files must be; "
                "--allow-unverified takes it as it is"
            )
        check_names(version.entries, address)
        return
    missing = [name for name in version.manifest.files if name not in version.entries]
    if missing:
        raise ExportError(f"{address} lacks {', '.join(missing)}, of which its {METADATA} speaks; push it again")


def arrive(version: RemoteVersion, base: Path, *, again: bool = False, jobs: int = 8) -> Arrival:
    """Bring a version that `check_whole` let through into a base path.

    Args:
        version: It.
        base: The base path; made where it is not there.
        again: Whether its number may be one that was here before and was removed.
        jobs: How many files at once.

    Raises:
        ExportError: A file is not what it must be, the number stands for another content, or there is no room.
    """
    check_base_path(base)
    there = _find_same(version, base)
    if there is not None:
        return there
    wanted = _wanted(version)
    size = sum(version.entries[name].size for name in wanted)
    with writing_to(base):
        check_free_space(base, size)
        is_taken = base.is_dir() and version.number in list_versions(base)
        if not is_taken:  # else it is the same for all that is known, or the copy tells
            _check_free(base, version.number, again=again)
        with staging_folder(base) as staged:
            _copy(version, wanted, staged, size, jobs)
            _check(version, staged)
            try:
                publish(staged, base, version=version.number, metadata=None, may_return=again)
            except ExportError:
                # Another pull may have brought the same in the meantime.
                there = _find_same(version, base, staged=staged)
                if there is not None:
                    return there
                raise
    return arrival(version, base / str(version.number), was_there=False)


def _check_free(base: Path, number: int, *, again: bool) -> None:
    try:
        check_free(base, number, may_return=again)
    except ExportError as error:
        if base.is_dir() and not again:
            raise ExportError(
                f"version {number} was in {base} before and was removed; --again brings it back, and "
                f"`tfbundle prune {base} --restore {number}` does where it is in the trash still"
            ) from error
        raise


def _wanted(version: RemoteVersion) -> tuple[str, ...]:
    return tuple(version.entries) if version.manifest is None else (*version.manifest.files, METADATA)


def _find_same(version: RemoteVersion, base: Path, *, staged: Path | None = None) -> Arrival | None:
    """Find the version in the base path; None where its number is free, or where only a copy could tell.

    Raises:
        ExportError: The number stands for another content there.
    """
    folder = list_versions(base).get(version.number) if base.is_dir() else None
    if folder is None:
        return None
    begin(logger, "comparing %s with %s", folder, version.store.address)
    manifest = version.manifest
    if manifest is None:
        if staged is None:
            sizes = {name: entry.size for name, entry in version.entries.items()}
            if sizes == {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}:
                return None
            is_same = False
        else:
            is_same = _hashes(staged) == _hashes(folder)
    else:
        found = check_files(folder, manifest.files)
        own = folder / METADATA
        is_same = found.is_clean and own.is_file() and own.read_bytes() == manifest.text
        if not is_same and own.is_file() and own.read_bytes() == manifest.text:
            odd = ", ".join([*found.missing, *found.changed, *found.extra])
            raise ExportError(f"{folder} is {version.store.address}, but damaged here ({odd}); move it away first")
    if not is_same:
        raise ExportError(
            f"{folder} is another model than {version.store.address}; a version is never overwritten, "
            "and a number never stands for two models"
        )
    return arrival(version, folder, was_there=True)


def _hashes(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files_below(folder)}


def arrival(version: RemoteVersion, folder: Path, *, was_there: bool) -> Arrival:
    """Say that a version is in its folder."""
    wanted = _wanted(version)
    return Arrival(
        source=version.store.address,
        folder=folder,
        number=version.number,
        files=len(wanted),
        size=sum(version.entries[name].size for name in wanted),
        was_there=was_there,
        is_verified=version.manifest is not None,
        left_out=tuple(sorted(set(version.entries) - set(wanted))),
    )


def _copy(version: RemoteVersion, names: tuple[str, ...], staged: Path, size: int, jobs: int) -> None:
    staged.mkdir()
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
    begin(logger, "copying %s", version.store.address)
    with open_progress(f"version {version.number}", size) as on_bytes:

        def fetch(name: str) -> None:
            version.store.fetch(name, staged / name, on_bytes)

        do_all(fetch, names, jobs=jobs if version.store.is_parallel else 1)


def _check(version: RemoteVersion, staged: Path) -> None:
    """Hold what came against what had to come."""
    begin(logger, "checking what came from %s", version.store.address)
    for name in _wanted(version):
        expected, came = version.entries[name].size, (staged / name).stat().st_size
        if came != expected:
            raise ExportError(
                f"{version.store.address}/{name} was cut off: {came:,} of {expected:,} bytes came; nothing appeared"
            )
    manifest = version.manifest
    if manifest is None:
        return
    wrong = check_files(staged, manifest.files)
    if not wrong.is_clean:
        raise ExportError(
            f"{version.store.address} is corrupt: {', '.join([*wrong.changed, *wrong.missing, *wrong.extra])} "
            f"{'is' if len(wrong.changed) == 1 else 'are'} not what its {METADATA} says; nothing was published"
        )
    if (staged / METADATA).read_bytes() != manifest.text:
        raise ExportError(f"{version.store.address}/{METADATA} changed while it was copied; nothing was published")

"""A model's base path: which number is free, where an export is made, and what dead exporters left in it.

    models/digits/.staging-<uuid>/    an export in the making; its `owner` file is locked while the exporter lives

Servers look past it, since it is no number. The base path's lock and its list of numbers are in apis/base_path_lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfbundle_serving.apis.base_path_lock import LOCK, locked, read_released
from tfbundle_serving.apis.durable import sync
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import SAVED_MODEL, list_versions

logger = logging.getLogger(__name__)

_STAGING, _OWNER = ".staging-", "owner"
#: TensorFlow Serving's versions are int64.
_LARGEST_VERSION = (1 << 63) - 1
#: How often a base path is made anew that others take away; each time is one other exporter that failed.
_ATTEMPTS = 1000


def check_base_path(base: Path) -> None:
    """Refuse a base path that can hold no versions.

    Raises:
        ExportError: It is a file, or itself a version folder.
    """
    if base.exists() and not base.is_dir():
        raise ExportError(f"{base} is a file; expected the model's base path, the folder that holds its versions")
    if (base / SAVED_MODEL).exists():
        raise ExportError(f"{base} is itself a version; expected the folder above it, {base.resolve().parent}")


def check_free(base: Path, version: int, *, may_return: bool = False) -> None:
    """Refuse a number that is taken or was.

    Args:
        base: The base path.
        version: The number.
        may_return: Whether one that was here before will do.

    Raises:
        ExportError: It is not positive, exists, or was released before.
    """
    if not 0 < version <= _LARGEST_VERSION:
        raise ExportError(f"a version is a whole number from 1 to 2^63 - 1, got {version}")
    if not base.exists():
        return
    if version in list_versions(base):
        raise ExportError(
            f"version {version} exists in {base}; a released version is never overwritten "
            f"(the next free number is {next_version(base)})"
        )
    if not may_return and version in read_released(base):
        raise ExportError(
            f"version {version} was given out in {base} before and is not there any more; "
            f"a number never stands for two models (the next free number is {next_version(base)})"
        )


def next_version(base: Path) -> int:
    """Give the number after the highest that exists or ever did.

    Raises:
        ExportError: There is none left.
    """
    version = max([0, *list_versions(base), *read_released(base)]) + 1
    if version > _LARGEST_VERSION:
        raise ExportError(f"{base} has a version {version - 1}, which is the largest there can be: name another number")
    return version


@contextmanager
def staging_folder(base: Path) -> Iterator[Path]:
    """Make a folder beside the versions for an export in the making, and sweep what dead exporters left.

    Yields:
        A path that does not exist yet, for the version to be written to and renamed from. What is left of it
        afterwards is removed, and so is the base path where nothing ever came of it.

    Raises:
        OSError: The base path cannot be written.
    """
    is_new = not base.exists()
    staging, owner = _make_staging(base)
    try:
        yield staging / "version"
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(owner)
        if is_new:
            _remove_if_unused(base)


def _make_staging(base: Path) -> tuple[Path, int]:
    staging = base / f"{_STAGING}{uuid.uuid4().hex}"
    attempt = 0
    while True:
        attempt += 1
        try:
            if not base.exists():
                base.mkdir(parents=True, exist_ok=True)
                base.chmod(0o755)
                sync(base.parent)
            # Under the lock: a sweeper must not meet a staging folder whose owner file is not locked yet.
            with locked(base):
                _sweep(base)
                staging.mkdir()
                owner = os.open(staging / _OWNER, os.O_RDONLY | os.O_CREAT, 0o644)
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return staging, owner
        except FileNotFoundError:
            # An exporter that made the base path failed and took it back in this very moment; that it is here again
            # by now, made by a third one, says nothing against another try.
            if attempt == _ATTEMPTS:
                raise


def _remove_if_unused(base: Path) -> None:
    """Take back a base path that this export made and nothing came of."""
    try:
        with locked(base):
            if [path.name for path in base.iterdir()] == [LOCK]:
                (base / LOCK).unlink()
                base.rmdir()
    except OSError as error:
        logger.warning("cannot remove the empty folder %s: %s", base, error)


def _sweep(base: Path) -> None:
    for folder in base.glob(f"{_STAGING}*"):
        if _has_living_owner(folder):
            continue
        try:
            shutil.rmtree(folder)
        except OSError as error:
            logger.warning("cannot remove %s, which a dead exporter left: %s", folder, error)
        else:
            logger.info("removed %s, which an exporter that was killed had left", folder)


def _has_living_owner(folder: Path) -> bool:
    try:
        handle = os.open(folder / _OWNER, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:  # another user's, out of our reach
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def check_free_space(base: Path, wanted_bytes: int) -> None:
    """Refuse to begin what will not fit.

    Args:
        base: The base path, or a staging folder in it.
        wanted_bytes: What it takes.

    Raises:
        ExportError: The file system of the base path (or of its nearest existing parent) has less room.
    """
    place = base.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < wanted_bytes:
        named = base.parent if base.name.startswith(_STAGING) else base
        raise ExportError(
            f"{named} needs about {wanted_bytes / 1e6:.0f} MB of free space, there are {free / 1e6:.0f} MB"
        )

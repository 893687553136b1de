"""A base path's trash: versions that were pruned, until they are removed for good.

    models/digits/.trash/3-20261121T134655Z     version 3, as it was; moved here at that time (UTC)

Servers look past it, since it is no number. The numbers stay in the base path's list of released ones.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tfbundle_serving.apis.base_path_lock import locked, record_released
from tfbundle_serving.apis.durable import rename_without_replacing, sync
from tfbundle_serving.apis.errors import AlreadyExists, NotFound
from tfbundle_serving.apis.version_folder import list_versions

logger = logging.getLogger(__name__)

TRASH = ".trash"
_WHEN = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"([0-9]+)-([0-9]{8}T[0-9]{6}Z)")
#: What is being removed bears this in front of its name, so that a half removed version is never restored.
_GOING = ".going-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trashed:
    """A version in the trash.

    Attributes:
        number: Its number.
        path: Where it is.
        when: When it was moved there, in UTC.
    """

    number: int
    path: Path
    when: datetime


def read_name(path: Path) -> Trashed | None:
    """Read the name of something in the trash; None where it is not ours."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    try:
        when = datetime.strptime(match[2], _WHEN).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return Trashed(number=int(match[1]), path=path, when=when)


def list_trash(base: Path) -> tuple[Trashed, ...]:
    """List the versions in a base path's trash, lowest number first, oldest first."""
    try:
        found = [each for path in (base / TRASH).iterdir() if (each := read_name(path)) is not None]
    except FileNotFoundError:
        return ()
    return tuple(sorted(found, key=lambda each: (each.number, each.when)))


def move_to_trash(base: Path, folders: Sequence[Path], now: datetime) -> tuple[Trashed, ...]:
    """Move version folders out of the servers' sight, each by one rename; called under the base path's lock.

    Args:
        base: The base path.
        folders: In it, named like their numbers.
        now: In UTC.

    Raises:
        OSError: The file system refused; those before are moved.
    """
    trash = base / TRASH
    trash.mkdir(mode=0o755, exist_ok=True)
    record_released(base, ())
    moved = []
    for folder in folders:
        number = int(folder.name)
        path = trash / f"{number}-{now.strftime(_WHEN)}"
        rename_without_replacing(folder, path)
        moved.append(Trashed(number=number, path=path, when=now))
    sync(trash)
    sync(base)
    return tuple(moved)


def empty_trash(base: Path, *, older_than: timedelta, now: datetime) -> tuple[Trashed, ...]:
    """Remove for good what has been in the trash for that long, and what an earlier removal left.

    What cannot be removed is said in a log line and tried again the next time.
    """
    old = [each for each in list_trash(base) if now - each.when >= older_than]
    gone = tuple(each for each in old if _remove(base, each.path))
    for left in (base / TRASH).glob(f"{_GOING}*"):
        _remove(base, left)
    return gone


def _remove(base: Path, path: Path) -> bool:
    """Remove something in the trash; False where the file system refuses."""
    going = path if path.name.startswith(_GOING) else path.with_name(f"{_GOING}{path.name}")
    try:
        with locked(base):
            path.rename(going)
        if going.is_symlink() or not going.is_dir():
            going.unlink()
        else:
            shutil.rmtree(going)
    except OSError as error:
        logger.warning("cannot remove %s for good: %s", path, error)
        return False
    return True


def restore(base: Path, number: int) -> Path:
    """Bring a version back from the trash, by one rename.

    Returns:
        Its folder.

    Raises:
        NotFound: It is not in the trash; the message lists what is.
        AlreadyExists: There is a version of that number in the base path.
        OSError: The file system refused.
    """
    with locked(base):
        found = [each for each in list_trash(base) if each.number == number]
        if not found:
            others = ", ".join(str(each) for each in sorted({each.number for each in list_trash(base)})) or "nothing"
            raise NotFound(f"version {number} is not in {base / TRASH}; it holds {others}", version=number, attempts=0)
        if number in list_versions(base):
            raise AlreadyExists(f"version {number} is in {base}; nothing was restored", version=number, attempts=0)
        target = base / str(number)
        rename_without_replacing(found[-1].path, target)
        sync(base)
        return target

"""The lock of a model's base path, and the numbers that it has given out.

    models/digits/.lock         held for the moments in which numbers are given out, and folders swept or moved away
    models/digits/.released     every number that was ever given out, one a line, so that none comes twice

Whoever puts a version into a base path or takes one out of it holds the lock: the exporter, pull, push and prune.
Servers look past both files, since neither is a number.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .durable import open_lock, replace_file
from .errors import ExportError
from .version_folder import list_versions

LOCK, RELEASED = ".lock", ".released"


@contextmanager
def locked(base: Path) -> Iterator[None]:
    """Hold a base path's lock; it falls with the process, however that ends.

    Raises:
        FileNotFoundError: The base path is not there (any more).
    """
    while True:
        handle = open_lock(base / LOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still_there(base / LOCK, handle):
                yield
                return
        finally:
            os.close(handle)


def _is_still_there(path: Path, handle: int) -> bool:
    """Tell whether an open file is the one at that path: whoever held the lock may have removed the base path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def read_released(base: Path) -> set[int]:
    """Give the numbers that the base path's own list knows; without a list there are none.

    Raises:
        ExportError: The list is damaged.
    """
    path = base / RELEASED
    try:
        return {int(line) for line in path.read_text().split()}
    except FileNotFoundError:
        return set()
    except ValueError as error:
        raise ExportError(f"{path} is damaged ({error}); expected one released version number a line") from error


def record_released(base: Path, versions: Iterable[int]) -> None:
    """Note numbers as given out, with those that lie there; called under the lock, before a folder comes or goes."""
    known = read_released(base)
    numbers = known | {number for number in list_versions(base) if number > 0} | set(versions)
    if numbers != known:
        replace_file(base / RELEASED, "".join(f"{number}\n" for number in sorted(numbers)).encode())

"""File system calls that make a folder appear at once, whole, readable and for good."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

#: A server usually runs as another user than the exporter, and mkdtemp or a strict umask would lock it out.
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644


def make_readable(folder: Path) -> None:
    """Let everybody read a folder and everything in it."""
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(_FOLDER_MODE)
        for name in names:
            Path(parent, name).chmod(_FILE_MODE)


def sync_tree(folder: Path) -> None:
    """Bring a folder and everything in it to the disk, contents before the names that lead to them."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))


def sync(path: Path) -> None:
    """Bring one file, or one folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_lock(path: Path) -> int:
    """Open a lock file for flock, and make it if it is not there.

    NFS locks only what may be written; a lock that another user made can be read only, and is locked all the same
    elsewhere.

    Raises:
        OSError: It cannot be opened, or made.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that its readers see the old content or the new one, never a part.

    One that is there keeps its mode, and as far as the system lets us its owner and group: servers run as other users
    than those who write.

    Raises:
        OSError: It cannot be written; what was there is left.
    """
    try:
        before = path.stat()
    except FileNotFoundError:
        before = None
    # Beside the file, since a rename does not leave a file system.
    temporary = path.with_name(f".{path.name.lstrip('.')}.new")
    try:
        with temporary.open("wb") as file:
            if before is not None:
                _take_owner_and_mode(file.fileno(), before)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _take_owner_and_mode(handle: int, before: os.stat_result) -> None:
    now = os.fstat(handle)
    for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
        if owner not in (-1, now.st_uid) or group not in (-1, now.st_gid):
            with contextlib.suppress(PermissionError):
                os.fchown(handle, owner, group)
    os.fchmod(handle, stat.S_IMODE(before.st_mode))


def rename_without_replacing(source: Path, target: Path) -> None:
    """Rename a folder onto a name that must be free.

    Plain rename would silently take the place of an empty folder, and shutil.move would move into a full one. Where
    the system cannot refuse by itself (an old kernel, some network file systems) the caller's lock has to do.

    Raises:
        FileExistsError: The name is taken; nothing was changed.
        OSError: The rename failed.
    """
    exclusive = _exclusive_rename()
    if exclusive is not None:
        failure = exclusive(os.fsencode(source), os.fsencode(target))
        if failure == 0:
            return
        if failure not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise OSError(failure, os.strerror(failure), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(source), None, str(target))
    source.rename(target)


def _exclusive_rename() -> Callable[[bytes, bytes], int] | None:
    """Find the system's own rename that refuses to replace; it gives 0 or an errno."""
    library = ctypes.CDLL(None, use_errno=True)
    at_fdcwd, rename_noreplace, rename_excl = -100, 1, 4
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        return lambda source, target: (
            ctypes.get_errno() if library.renameat2(at_fdcwd, source, at_fdcwd, target, rename_noreplace) else 0
        )
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda source, target: ctypes.get_errno() if library.renamex_np(source, target, rename_excl) else 0
    return None

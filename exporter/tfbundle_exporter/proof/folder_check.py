"""A staged version folder holds files that a server can read, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tfbundle_serving.apis.errors import GateError

_KINDS = {
    stat.S_IFLNK: "a symbolic link, which would lead nowhere once the folder is copied or mounted",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_files(folder: Path) -> int:
    """Refuse what is no regular file or folder, and what cannot be read.

    Publishing gives everybody the right to read; what is no file of ours cannot be given it.

    Returns:
        How many files there are.

    Raises:
        GateError: There is something else; the message names it.
    """
    count = 0
    for parent, folders, names in os.walk(folder, onerror=_refuse_unreadable):
        for name in (*folders, *names):
            path = Path(parent, name)
            kind = stat.S_IFMT(path.lstat().st_mode)
            what = path.relative_to(folder)
            if kind in _KINDS:
                raise GateError(f"the staged version holds {what}, {_KINDS[kind]}; expected files and folders")
            if kind == stat.S_IFREG:
                _read_a_byte(path, what)
                count += 1
    return count


def _read_a_byte(path: Path, what: Path) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise GateError(f"the staged version's {what} cannot be read: {error.strerror}") from error


def _refuse_unreadable(error: OSError) -> None:
    raise GateError(f"the staged version's {error.filename} cannot be read: {error.strerror}") from error

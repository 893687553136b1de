"""What a file system refuses, in one line that names the base path and says what to do."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError

_FULL = "make room there, or export to another file system"
_DENIED = "export as a user who may write there, or to another folder"

#: What helps, where something is known to.
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.ENOLCK: "the file system must be able to lock files (flock)",
    errno.ENAMETOOLONG: "choose a shorter path",
}


@contextmanager
def writing_to(base: Path) -> Iterator[None]:
    """Say of whatever the file system refuses in this block that it concerns the base path.

    TensorFlow writes files past Python and has errors of its own for a full disk.

    Raises:
        ExportError: In place of an OSError, and of a TensorFlow error that speaks of a disk.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        raise ExportError(
            f"cannot write a version to {base}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
        ) from error
    except Exception as error:
        if not _is_of_the_disk(error):
            raise
        raise ExportError(f"cannot write a version to {base}: {_last_part(error)}; {_FULL}") from error


def _is_of_the_disk(error: Exception) -> bool:
    tf = sys.modules.get("tensorflow")
    # ResourceExhausted stands for memory, too; the C library's words tell them apart.
    return (
        tf is not None
        and isinstance(error, tf.errors.ResourceExhaustedError)
        and ("No space left on device" in str(error) or "Disk quota exceeded" in str(error))
    )


def _last_part(error: Exception) -> str:
    """Give "No space left on device" of "path; No space left on device"."""
    return str(error).rsplit(";", 1)[-1].split("[")[0].strip()

"""What a file system refuses, in one line that names the base path and says what to do."""

from __future__ import annotations

import errno
import os
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
        # Whoever called TensorFlow may have put words of their own around its error.
        for told in (error, error.__cause__):
            if told is not None and (reason := _reason_of_the_disk(told)):
                raise ExportError(f"cannot write a version to {base}: {reason}; {_FULL}") from error
        raise


def _reason_of_the_disk(error: BaseException) -> str:
    """Give the system's reason where TensorFlow met a full disk; "" for anything else, memory that ran out included."""
    tf = sys.modules.get("tensorflow")
    if tf is None or not isinstance(error, tf.errors.ResourceExhaustedError):
        return ""
    reasons = (os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
    return next((reason for reason in reasons if reason in str(error)), "")

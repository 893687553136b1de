"""Files that take the place of others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tfbundle_serving.apis.durable import replace_file


def test_replacing_keeps_who_may_read(tmp_path: Path) -> None:
    """The new content has the mode, and as root the owner and group, of the old one; nothing else is left there."""
    path = tmp_path / "models.config"
    replace_file(path, b"one")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 10001, 10002)
    before = path.stat()
    replace_file(path, b"two")
    after = path.stat()
    assert (path.read_bytes(), before.st_ino != after.st_ino) == (b"two", True)
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, before.st_uid, before.st_gid)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A name that is taken by a folder stays it, and no half file lies about."""
    (tmp_path / "taken" / "by").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        replace_file(tmp_path / "taken", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

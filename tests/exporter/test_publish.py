"""Numbers, locks, staging folders and the rename: how a version comes into a base path."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tfbundle_exporter.publishing.base_path import check_free, check_free_space, next_version, staging_folder
from tfbundle_exporter.publishing.publish import publish
from tfbundle_serving.apis import durable
from tfbundle_serving.apis.base_path_lock import locked, record_released
from tfbundle_serving.apis.durable import rename_without_replacing
from tfbundle_serving.apis.errors import ExportError


def release(base: Path, version: int | None = None, content: str = "graph") -> int:
    """Publish a version folder with one file in it."""
    with staging_folder(base) as staged:
        (staged / "variables").mkdir(parents=True)
        (staged / "saved_model.pb").write_text(content)
        (staged / "variables/variables.index").touch()
        return publish(staged, base, version=version, metadata=lambda number: b'{"version": %d}' % number)


class TestNumbers:
    def test_they_go_up(self, tmp_path: Path) -> None:
        """The first is 1, each next one higher by one than the highest."""
        assert [release(tmp_path / "m") for _ in range(3)] == [1, 2, 3]
        assert release(tmp_path / "m", 10) == 10
        assert release(tmp_path / "m") == 11

    def test_they_begin_above_what_others_made(self, tmp_path: Path) -> None:
        """Versions that were there before, padded ones too, count."""
        (tmp_path / "0017").mkdir()
        assert release(tmp_path) == 18
        with pytest.raises(ExportError, match="version 17 exists"):
            release(tmp_path, 17)

    def test_a_deleted_number_does_not_come_back(self, tmp_path: Path) -> None:
        """A server that remembers version 2 must never meet another one."""
        (tmp_path / "1").mkdir()
        release(tmp_path)
        for name in ("1", "2"):
            shutil.rmtree(tmp_path / name)
        with pytest.raises(ExportError, match=r"version 2 was given out .* not there any more.* free number is 3"):
            release(tmp_path, 2)
        with pytest.raises(ExportError, match="version 1 was given out"):
            release(tmp_path, 1)
        assert release(tmp_path) == 3

    def test_a_released_number_is_never_overwritten(self, tmp_path: Path) -> None:
        """The folder that is there stays as it is."""
        release(tmp_path, 5, "old")
        with pytest.raises(ExportError, match=r"version 5 exists in .*never overwritten .*next free number is 6"):
            release(tmp_path, 5, "new")
        assert (tmp_path / "5/saved_model.pb").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".released", "5"]

    def test_an_unused_lower_number_may_be_named(self, tmp_path: Path) -> None:
        """Going back is for the user to decide, where the number never stood for anything."""
        release(tmp_path, 10)
        assert release(tmp_path, 3) == 3
        assert release(tmp_path) == 11

    def test_the_largest_number_has_no_next(self, tmp_path: Path) -> None:
        """int64 ends, and that is said."""
        (tmp_path / str((1 << 63) - 1)).mkdir()
        with pytest.raises(ExportError, match="largest there can be"):
            next_version(tmp_path)

    def test_a_damaged_record_is_not_ignored(self, tmp_path: Path) -> None:
        """Without the record a number might come back."""
        (tmp_path / ".released").write_text("1\ntwo\n")
        with pytest.raises(ExportError, match=r"\.released is damaged"):
            check_free(tmp_path, 7)


class TestFolders:
    @pytest.fixture(autouse=True)
    def strict_umask(self) -> Iterator[None]:
        """Export as somebody whose files are private."""
        before = os.umask(0o077)
        yield
        os.umask(before)

    def test_everybody_can_read_a_version(self, tmp_path: Path) -> None:
        """Servers run as another user than exporters."""
        base = tmp_path / "m"
        folder = base / str(release(base))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [base, folder, *folder.rglob("*")]}
        assert modes == {
            "m": 0o755,
            "1": 0o755,
            "variables": 0o755,
            "saved_model.pb": 0o644,
            "variables.index": 0o644,
            "metadata.json": 0o644,
        }

    def test_a_failed_export_leaves_nothing(self, tmp_path: Path) -> None:
        """Whatever goes wrong between staging and publishing, the staging folder goes."""

        def fail() -> None:
            with staging_folder(tmp_path) as staged:
                staged.mkdir()
                (staged / "saved_model.pb").touch()
                raise RuntimeError("the model turned out to be wrong")

        with pytest.raises(RuntimeError):
            fail()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


class TestRename:
    @pytest.fixture(params=["the system's own", "under the lock"], autouse=True)
    def way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Use the system's exclusive rename, then do as if it had none."""
        if request.param == "under the lock":
            monkeypatch.setattr(durable, "_exclusive_rename", lambda: None)

    def test_a_free_name(self, tmp_path: Path) -> None:
        """The folder is moved whole."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").touch()
        rename_without_replacing(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b/x").exists()
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("kind", ["full folder", "empty folder", "file", "dangling link"])
    def test_a_taken_name(self, kind: str, tmp_path: Path) -> None:
        """Nothing is replaced, not even an empty folder, which plain rename would take away."""
        target = tmp_path / "b"
        if "folder" in kind:
            target.mkdir()
        if kind == "full folder":
            (target / "x").touch()
        elif kind == "file":
            target.touch()
        elif kind == "dangling link":
            target.symlink_to(tmp_path / "nowhere")
        (tmp_path / "a").mkdir()
        with pytest.raises(FileExistsError):
            rename_without_replacing(tmp_path / "a", target)
        assert (tmp_path / "a").is_dir()

    def test_a_missing_source(self, tmp_path: Path) -> None:
        """Other failures are the system's own."""
        with pytest.raises(FileNotFoundError):
            rename_without_replacing(tmp_path / "a", tmp_path / "b")

    def test_somebody_who_does_not_know_the_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that appears between the look and the rename is left alone, and the next number is taken."""

        def intrude(base: Path, versions: Iterable[int]) -> None:
            record_released(base, versions)
            (base / "1").mkdir(exist_ok=True)

        monkeypatch.setattr("tfbundle_exporter.publishing.publish.record_released", intrude)
        assert release(tmp_path) == 2
        assert not list((tmp_path / "1").iterdir())
        assert (tmp_path / "2/metadata.json").read_text() == '{"version": 2}'


class TestLeftovers:
    def test_a_dead_owners_staging_is_swept(self, tmp_path: Path) -> None:
        """A process that is killed while staging leaves a folder; the next export removes it."""
        code = (
            "import os, signal, sys\nfrom pathlib import Path\n"
            "from tfbundle_exporter.publishing.base_path import staging_folder\n"
            "with staging_folder(Path(sys.argv[1])) as staged:\n"
            "    staged.mkdir()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        assert done.returncode == -9
        (tmp_path / ".staging-without-owner").mkdir()
        assert len(list(tmp_path.glob(".staging-*/version"))) == 1
        assert release(tmp_path) == 1
        assert list(tmp_path.glob(".staging-*")) == []

    def test_a_living_owners_staging_is_not(self, tmp_path: Path) -> None:
        """An export that takes long is not disturbed by one that starts later."""
        with staging_folder(tmp_path) as slow:
            slow.mkdir()
            assert release(tmp_path) == 1
            assert slow.is_dir()
            assert publish(slow, tmp_path, version=None, metadata=lambda _: b"{}") == 2

    def test_the_lock_keeps_others_out(self, tmp_path: Path) -> None:
        """While one exporter gives out a number the next one waits."""
        order = []

        def second() -> None:
            with locked(tmp_path):
                order.append("second")

        with locked(tmp_path):
            waiting = threading.Thread(target=second)
            waiting.start()
            with (tmp_path / ".lock").open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            order.append("first")
        waiting.join(timeout=10)
        assert order == ["first", "second"]


def test_sixteen_publishers_get_sixteen_numbers(tmp_path: Path) -> None:
    """Racing threads, each with its own staging, neither lose nor share a number."""
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(release(tmp_path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(numbers) == list(range(1, 17))
    for number in numbers:
        assert (tmp_path / str(number) / "metadata.json").read_text() == f'{{"version": {number}}}'


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    """The room that is needed and the room that there is are named."""
    with pytest.raises(ExportError, match=r"needs about 1000000000000 MB of free space, there are \d+ MB"):
        check_free_space(tmp_path / "not" / "yet", 10**18)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the right to write."""
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_base_path_that_cannot_be_written(tmp_path: Path) -> None:
    """The system's refusal comes through."""
    with read_only(tmp_path), pytest.raises(PermissionError), staging_folder(tmp_path / "m"):
        pass

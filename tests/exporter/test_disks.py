"""Full, read-only and foreign disks, clocks that were set back: nothing half-made is ever seen under a number."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import rows
from tfbundle_exporter import export_model
from tfbundle_exporter.publishing.base_path import staging_folder
from tfbundle_exporter.publishing.disk_errors import writing_to
from tfbundle_exporter.publishing.publish import publish
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import list_versions, read_metadata


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system of its own at a folder; skip visibly where that is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    mount = shutil.which("mount")
    done = subprocess.run(command, capture_output=True, text=True, check=False) if mount else None
    if done is None or done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.strip() if done else 'there is no mount command'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def model_of(keras: Any, megabytes: int) -> Any:
    """Build a model whose weights have that size."""
    layer = keras.layers.Dense(megabytes * 250, use_bias=False, name="y")
    return keras.Sequential([keras.Input((1000,), name="x"), layer])


def test_a_disk_that_is_too_small_is_refused_beforehand(keras: Any, tmp_path: Path) -> None:
    """Folder, need and room are named, and the base path is as it was before."""
    with mounted(tmp_path / "disk", "size=8m") as disk:
        with pytest.raises(ExportError, match=r"disk/m needs about \d+ MB of free space, there are 8 MB"):
            export_model(model_of(keras, 1), disk / "m")
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("left_kilobytes", [1000, 300])
def test_a_disk_that_fills_up_on_the_way(
    left_kilobytes: int, keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others take the room after it was looked for, the error names the folder, and only old versions stay."""
    with mounted(tmp_path / "disk", "size=40m") as disk:
        base = disk / "m"
        release(base)
        others = np.random.default_rng(0).bytes(shutil.disk_usage(disk).free - left_kilobytes * 1024)

        def look(*_: Any) -> None:
            """Find the room that is gone a moment later."""
            (disk / "others").write_bytes(others)

        monkeypatch.setattr("tfbundle_exporter.staging.check_free_space", look)
        with pytest.raises(ExportError) as caught:
            export_model(model_of(keras, 1), base, example_inputs=rows(1000))
        assert str(base) in str(caught.value)
        assert "No space left on device" in str(caught.value)
        assert list(list_versions(base)) == [1]
        assert [path.name for path in base.iterdir() if path.name.startswith(".staging")] == []
        (disk / "others").unlink()
        assert release(base) == 2


@pytest.mark.parametrize("kind", ["mounted read-only", "file"])
def test_a_target_that_cannot_be_written(kind: str, keras: Any, tmp_path: Path) -> None:
    """The base path and the system's reason stand in one line."""
    with mounted(tmp_path / "disk", "size=40m") as disk:
        if kind == "file":
            (disk / "models").touch()
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        with pytest.raises(ExportError, match=r"disk/models/m: (Read-only file system|Not a directory)"):
            export_model(model_of(keras, 1), disk / "models/m")


def test_another_file_system_and_another_time(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging lies beside the versions, wherever TMPDIR is, and a version of old is the newest one none the less."""
    with mounted(tmp_path / "disk", "size=60m") as disk:
        release(disk / "m")
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
        assert disk.stat().st_dev != tmp_path.stat().st_dev
        version = export_model(model_of(keras, 1), disk / "m", example_inputs=rows(1000))
        assert list(list_versions(disk / "m")) == [1, version.version] == [1, 2]
        assert version.metadata["created_at"] == "1970-01-01T00:00:00Z"


def release(base: Path) -> int:
    """Publish a version folder with some files in it."""
    with staging_folder(base) as staged:
        (staged / "variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
            (staged / name).write_bytes(b"x" * 1000)
        return publish(staged, base, version=None, metadata=lambda number: b'{"version": %d}' % number)


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """Numbers come from what was there, not from the time: a later version is a higher one whatever the clock says."""
    assert release(tmp_path) == 1
    for path in (tmp_path / "1", *(tmp_path / "1").rglob("*"), tmp_path / ".released"):
        os.utime(path, (4e9, 4e9))
    assert release(tmp_path) == 2


def test_tensorflows_own_word_for_a_full_disk(tmp_path: Path) -> None:
    """It names base path and remedy; memory that ran out, and anything else, is left as it is."""
    import tensorflow as tf

    full = tf.errors.ResourceExhaustedError(None, None, f"{tmp_path}/m/.staging-1/x; No space left on device")
    with pytest.raises(ExportError, match=r"/m: No space left on device; make room there"), writing_to(tmp_path / "m"):
        raise full
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    with pytest.raises(tf.errors.ResourceExhaustedError), writing_to(tmp_path / "m"):
        raise memory
    with pytest.raises(ExportError, match="Read-only file system; export as a user"), writing_to(tmp_path / "m"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere")


RACER = """
import os, sys
from pathlib import Path
from tests.exporter.test_disks import release
base, count = Path(sys.argv[1]), int(sys.argv[2])
for _ in range(16):
    if os.fork() == 0:
        for _ in range(count):
            release(base)
        os._exit(0)
sys.exit(any(os.wait()[1] for _ in range(16)))
"""


def test_sixteen_processes_race(tmp_path: Path) -> None:
    """No number is lost or shared, and a watcher that never stops looking sees whole versions only."""
    base = tmp_path / "m"
    base.mkdir()
    torn: list[str] = []
    looks = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            looks[0] += 1
            for number, folder in list_versions(base).items():
                metadata = read_metadata(folder)
                if metadata != {"version": number} or not (folder / "variables/variables.index").exists():
                    torn.append(str(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", RACER, str(base), "4"]
        subprocess.run(command, check=True, timeout=120, env=environment)
    finally:
        stop.set()
        watcher.join()
    assert torn == []
    assert looks[0] > 10
    assert list(list_versions(base)) == list(range(1, 65))
    assert json.loads((base / "64/metadata.json").read_text()) == {"version": 64}


def test_a_base_path_that_others_take_away(tmp_path: Path) -> None:
    """Exporters that fail remove the base path that they made, under the feet of those that begin; none minds."""
    base = tmp_path / "m"
    numbers: list[int] = []
    failures: list[BaseException] = []

    def noted(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    def fail() -> None:
        for _ in range(50):
            with staging_folder(base):
                pass

    work = [fail] * 6 + [lambda: numbers.append(release(base))] * 2
    threads = [threading.Thread(target=noted, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert sorted(numbers) == [1, 2]

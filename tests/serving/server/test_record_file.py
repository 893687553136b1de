"""The recorder and its file by themselves: chance, bounds, and every way in which a file may be lost."""

from __future__ import annotations

import contextlib
import logging
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.server.conftest import wait_for
from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest
from tfbundle_serving.apis.prediction_log import read_prediction_logs
from tfbundle_serving.apis.signatures import PREDICT_METHOD
from tfbundle_serving.apis.tfrecord import frame, read_records
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.metrics import Metrics
from tfbundle_serving.server.record_file import RecordFile
from tfbundle_serving.server.record_settings import RecordSettings
from tfbundle_serving.server.recorder import FileRecorder, NullRecorder, make_recorder
from tfbundle_serving.server.settings import settings_from_flags

RECORD = [b"x" * 1000]
RECORD_BYTES = 1016
ANSWERED = ModelSpec("m", 1)


def request(value: float = 0.0, size: int = 1) -> PredictRequest:
    """Make a request."""
    return PredictRequest(ModelSpec("m"), {"x": np.full(size, value, np.float32)})


def counted(metrics: Metrics) -> dict[str, int]:
    """Give the recorder's counts by status."""
    lines = [
        line for line in metrics.show().decode().splitlines() if line.startswith(":tensorflow:serving:request_log")
    ]
    return {line.split('status="')[1].split('"')[0]: int(line.rpartition(" ")[2]) for line in lines}


@contextmanager
def running(recorder: FileRecorder) -> Iterator[FileRecorder]:
    """Let it write."""
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


def test_chance(tmp_path: Path) -> None:
    """The rate is a probability of each request by itself; a list of models narrows it."""
    settings = RecordSettings(file=tmp_path / "log", rate=0.1, models=frozenset({"m"}))
    recorder = FileRecorder(settings, Metrics(), seed=1)
    wanted = [place for place in range(10_000) if recorder.wants("m")]
    assert 900 < len(wanted) < 1100
    assert len(set(np.diff(wanted))) > 20
    assert not any(recorder.wants("another") for _ in range(1000))
    everything = FileRecorder(RecordSettings(file=tmp_path / "log", rate=1.0), Metrics())
    assert all(everything.wants("m") for _ in range(1000))


def test_off(tmp_path: Path) -> None:
    """Without a file, or at rate 0, nothing is wanted and no file is made."""
    for settings in (None, RecordSettings(file=tmp_path / "log", rate=0.0)):
        recorder = make_recorder(settings, Metrics())
        assert isinstance(recorder, NullRecorder)
        recorder.start()
        assert not recorder.wants("m")
        recorder.stop()
    assert not (tmp_path / "log").exists()


def test_what_does_not_keep_up_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that wait are bounded; more are counted and said once, and what waited is written."""
    metrics = Metrics()
    recorder = FileRecorder(RecordSettings(file=tmp_path / "log", rate=1.0), metrics, most_waiting_bytes=20_000)
    for value in range(10):
        recorder.take(request(value, size=1000), PREDICT_METHOD, ANSWERED)
    with running(recorder):
        pass
    assert [each.inputs["x"][0] for each in read_prediction_logs(tmp_path / "log")] == [0, 1, 2, 3]
    assert counted(metrics) == {"OK": 4, "RESOURCE_EXHAUSTED": 6}
    assert [each.getMessage() for each in caplog.records] == [
        f"recording to {tmp_path / 'log'} does not keep up: requests are left out; a lower --record_rate helps"
    ]


def test_a_full_file_rests_until_it_is_moved_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It never has more bytes than allowed; that is said once; its successor is begun as soon as its place is free."""
    file, metrics = tmp_path / "log", Metrics()
    caplog.set_level(logging.INFO)
    with running(FileRecorder(RecordSettings(file=file, rate=1.0, max_bytes=2500), metrics)) as recorder:

        def ask(status: str) -> int:
            before = counted(metrics).get(status, 0)
            recorder.take(request(size=250), PREDICT_METHOD, ANSWERED)
            recorder._wake.set()
            wait_for(lambda: counted(metrics).get(status, 0) > before, status)
            return file.stat().st_size

        assert [ask("OK"), ask("OK"), ask("RESOURCE_EXHAUSTED"), ask("RESOURCE_EXHAUSTED")][-1] <= 2500
        file.rename(tmp_path / "log.1")
        ask("OK")
    assert (len(list(read_records(tmp_path / "log.1"))), len(list(read_records(file)))) == (2, 1)
    assert [each.getMessage().partition(f"{file}")[0] for each in caplog.records] == [
        *("recording rests: with the next request ", "recording to "),
    ]


def test_trouble_is_said_once_and_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without its folder nothing is recorded and nobody is held up; once it is back, recording goes on."""
    folder, metrics = tmp_path / "logs", Metrics()
    folder.mkdir()
    caplog.set_level(logging.INFO)
    with running(FileRecorder(RecordSettings(file=folder / "log", rate=1.0), metrics)) as recorder:

        def ask(status: str) -> None:
            before = counted(metrics).get(status, 0)
            recorder.take(request(), PREDICT_METHOD, ANSWERED)
            recorder._wake.set()
            wait_for(lambda: counted(metrics).get(status, 0) > before, status)

        ask("OK")
        folder.rename(tmp_path / "away")
        ask("UNAVAILABLE")
        ask("UNAVAILABLE")
        folder.mkdir()
        ask("OK")
    assert [each.getMessage() for each in caplog.records] == [
        f"recording to {folder / 'log'} failed: No such file or directory; it is tried again",
        f"recording to {folder / 'log'} goes on",
    ]


def test_a_write_that_fails_leaves_whole_records(tmp_path: Path) -> None:
    """Where the system refuses in the middle of a write, what it took is cut off again."""
    file = RecordFile(tmp_path / "log", 1 << 30)
    assert file.append([RECORD]) == 1
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * RECORD_BYTES // 2, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.append([RECORD, RECORD])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "log").stat().st_size == RECORD_BYTES
    assert file.append([RECORD, [bytes(100_000), b"y"]]) == 2
    file.close()
    assert [len(each) for each in read_records(tmp_path / "log")] == [1000, 1000, 100_001]


def test_what_a_killed_writer_left_is_cut_off(tmp_path: Path) -> None:
    """Before each append the others' records are looked at, and part of one goes."""
    path = tmp_path / "log"
    mine, theirs = RecordFile(path, 1 << 30), RecordFile(path, 1 << 30)
    for writer in (mine, theirs, mine):
        writer.append([RECORD, RECORD])
        with path.open("ab") as file:
            file.write(frame([RECORD])[0][:500])
    mine.append([RECORD])
    mine.close()
    theirs.close()
    assert len(list(read_records(path))) == 7


def test_writers_that_are_killed(tmp_path: Path) -> None:
    """However many processes write to a file, and whenever one is killed, every record in it is whole."""
    path = tmp_path / "log"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)

    chance = random.Random(0)
    with contextlib.ExitStack() as stack:
        survivor = stack.enter_context(start())
        stack.callback(survivor.kill)
        for _ in range(4):
            with start() as victim:
                assert victim.stdout is not None
                victim.stdout.read(chance.randrange(1, 20))
                victim.kill()
        assert survivor.stdout is not None
        survivor.stdout.read(20)
    writer = RecordFile(path, 1 << 40)
    writer.append([RECORD])
    writer.close()
    records = list(read_records(path))
    assert len(records) > 20
    assert {len(each) for each in records} == {200_000, 1000}
    # TensorFlow reads all checksums.
    assert sum(1 for _ in tf.data.TFRecordDataset(str(path))) == len(records)


#: Appends as fast as it can, and says so with a byte each.
_WRITER = """
import sys
from pathlib import Path
from tfbundle_serving.server.record_file import RecordFile

file = RecordFile(Path(sys.argv[1]), 1 << 40)
while True:
    file.append([[bytes(200_000)]] * 5)
    sys.stdout.write(".")
    sys.stdout.flush()
"""


def test_a_file_that_is_emptied(tmp_path: Path) -> None:
    """It is begun anew, also where it was full."""
    path = tmp_path / "log"
    file = RecordFile(path, 2 * RECORD_BYTES)
    assert file.append([RECORD] * 3) == 2
    assert file.append([RECORD]) == 0
    path.write_bytes(b"")
    assert file.append([RECORD]) == 1
    file.close()
    assert len(list(read_records(path))) == 1


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    """Damage behind whole records, as by a power failure, does not keep a server from starting."""
    path = tmp_path / "log"
    content = b"".join(frame([RECORD])) + bytes(100)
    path.write_bytes(content)
    file = RecordFile(path, 1 << 30)
    file.check()
    file.append([RECORD])
    file.close()
    assert (tmp_path / "log.damaged-1").read_bytes() == content
    assert len(list(read_records(path))) == 1


def test_what_is_no_file_for_records_is_left_as_it_is(tmp_path: Path) -> None:
    """Somebody else's file, a folder, a pipe, a folder that is missing: a clear line at start."""
    (tmp_path / "notes").write_text("not a TFRecord file at all")
    (tmp_path / "device").symlink_to("/dev/null")
    for name, text in (
        ("notes", "it is no TFRecord file; name another file, or one that is yet to be"),
        ("device", "is no regular file"),
        (".", "cannot be written: Is a directory"),
        ("missing/log", "cannot be written: No such file or directory"),
    ):
        with pytest.raises(InvalidArgument, match=text):
            RecordFile(tmp_path / name, 1 << 30).check()
    assert (tmp_path / "notes").read_text() == "not a TFRecord file at all"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], None),
        (["--record=f"], ("f", 0.01, 1 << 30, set())),
        (["--record", "f", "--record-rate", "0.5"], ("f", 0.5, 1 << 30, set())),
        (["--record=f", "--record_rate=0", "--record_max_bytes=9", "--record_models=a,b"], ("f", 0.0, 9, {"a", "b"})),
        (["--record_rate=0.5"], "--record_rate needs --record=FILE"),
        (["--record-models", "m"], "--record_models needs --record=FILE"),
        (["--record=f", "--record_rate=1.5"], "0 to 1; got 1.5"),
        (["--record=f", "--record_rate=nan"], "0 to 1; got nan"),
        (["--record=f", "--record_max_bytes=0"], "1 or more, got 0"),
    ],
)
def test_flags(flags: list[str], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--record FILE --record-rate 0.01, in both spellings, and what cannot be meant."""
    monkeypatch.chdir(tmp_path)
    parsed = parse(["models", *flags])
    if isinstance(expected, str):
        with pytest.raises(InvalidArgument, match=expected):
            settings_from_flags(parsed)
        return
    record = settings_from_flags(parsed).record
    if expected is None:
        assert record is None
    else:
        assert record is not None
        assert (str(record.file), record.rate, record.max_bytes, record.models) == (
            str(tmp_path / expected[0]),
            *expected[1:],
        )

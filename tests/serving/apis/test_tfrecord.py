"""TFRecord files: what TensorFlow writes is read, what is written TensorFlow reads, and damage is placed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.tfrecord import frame, read_records, whole_records_end

RECORDS = [b"", b"a", b"bc" * 50, bytes(range(256)) * 700, b"end"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that TensorFlow has written."""
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def test_files_are_tensorflows(path: Path) -> None:
    """Ours is byte for byte the same, whether a record is given whole or in pieces."""
    whole = path.read_bytes()
    pieces: list[list[bytes | memoryview]] = [[record[:2], memoryview(record)[2:]] for record in RECORDS]
    assert b"".join(frame([[record] for record in RECORDS])) == whole
    assert b"".join(frame(pieces)) == whole
    assert list(read_records(path)) == RECORDS


def test_a_torn_tail_is_an_error_or_told(path: Path) -> None:
    """Cut off at any byte, the whole records are there, and the place of the rest is named."""
    whole = path.read_bytes()
    last = len(whole) - len(RECORDS[-1]) - 16
    for size in range(last + 1, len(whole)):
        path.write_bytes(whole[:size])
        told: list[tuple[int, int]] = []
        assert list(read_records(path, _note(told))) == RECORDS[:-1]
        assert told == [(last, size)]
        with pytest.raises(DecodeError, match=f"begins at byte {last} and is not whole"):
            list(read_records(path))
        with path.open("rb") as file:
            assert whole_records_end(file, 0) == last
    path.write_bytes(whole)
    with path.open("rb") as file:
        assert whole_records_end(file, 0) == len(whole)
        assert whole_records_end(file, last) == len(whole)


def test_damage_is_no_torn_tail(path: Path) -> None:
    """What is no record in the middle is an error, however patient the reader is."""
    whole = bytearray(path.read_bytes())
    whole[16] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DecodeError, match="damaged at byte 16"):
        list(read_records(path, lambda *_: None))
    path.write_bytes(b"no such thing")
    with pytest.raises(DecodeError, match="no TFRecord file"):
        list(read_records(path, lambda *_: None))


def _note(told: list[tuple[int, int]]) -> Callable[[int, int], None]:
    return lambda at, size: told.append((at, size))

"""The file that recorded requests are appended to: whole records only, whoever else appends to it or dies meanwhile.

Several workers write to one file. Each holds the file's lock while it appends, and looks first at what the others have
appended since: one that was killed may have left part of a record, which is cut off. Whoever moves the file away, such
as logrotate, gets a whole file; the next record begins a new one.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.tfrecord import HEAD_BYTES, TAIL_BYTES, NoRecordError, frame, whole_records_end
from tfbundle_serving.apis.wire import Chunk, size_of

log = logging.getLogger(__name__)

#: Users' data is their own business.
_MODE = 0o600
#: What one call of the system takes.
_MOST_PIECES = 1024


class RecordFile:
    """A TFRecord file that grows.

    Args:
        path: Where it is, or will be.
        max_bytes: Bytes that it may have.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._fd = -1
        self._is_full = False
        #: Where the last record that was looked at ends.
        self._end = 0

    def check(self) -> None:
        """Open the file, and make it where it is missing.

        Raises:
            InvalidArgument: It cannot be appended to, or holds something else; it is left as it is.
        """
        try:
            with self._locked():
                pass
        except OSError as error:
            raise InvalidArgument(f"--record={self.path}: cannot be written: {error.strerror or error}") from error

    def append(self, records: Sequence[Sequence[Chunk]]) -> int:
        """Append records, each given in pieces, as many as may be.

        Returns:
            How many; fewer than were given where the file may have no more bytes.

        Raises:
            OSError: They cannot be written; none of them was.
            InvalidArgument: Somebody has put another file there.
        """
        with self._locked() as fd:
            sizes = itertools.accumulate(HEAD_BYTES + size_of(each) + TAIL_BYTES for each in records)
            # Once a record did not fit, a smaller one is not put in its place.
            count = 0 if self._is_full else sum(self._end + size <= self._max_bytes for size in sizes)
            self._is_full = count < len(records)
            if count:
                try:
                    _write(fd, frame(records[:count]))
                except BaseException:
                    os.ftruncate(fd, self._end)
                    raise
                self._end = os.fstat(fd).st_size
            return count

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def _locked(self) -> Iterator[int]:
        while True:
            if self._fd < 0:
                self._open()
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                if self._is_in_place() and self._look():
                    yield self._fd
                    return
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.close()

    def _open(self) -> None:
        # Without waiting: whoever names a pipe is told so.
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _MODE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidArgument(f"--record={self.path} is no regular file: name one, or one that is yet to be")
        self._fd, self._end, self._is_full = fd, 0, False

    def _is_in_place(self) -> bool:
        """Tell whether the open file is still the one of that name."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._fd))

    def _look(self) -> bool:
        """Find the end of the whole records, and cut off what is behind it; False where the file was put aside."""
        size = os.fstat(self._fd).st_size
        if size == self._end:
            return True
        # Somebody may have emptied it.
        begin = self._end
        if size < begin:
            begin, self._is_full = 0, False
        with os.fdopen(os.dup(self._fd), "rb") as file:
            try:
                end = whole_records_end(file, begin)
            except NoRecordError as error:
                return self._put_aside(error)
        if end < size:
            log.warning("%s ended within a record, as where a server was killed; cut off from byte %d", self.path, end)
            os.ftruncate(self._fd, end)
        self._end = end
        return True

    def _put_aside(self, error: NoRecordError) -> bool:
        """Keep a file that is damaged, as by a power failure, for somebody to look at; what never was one stays."""
        if error.at == 0:
            raise InvalidArgument(f"--record={self.path}: {error}; name another file, or one that is yet to be")
        names = (self.path.with_name(f"{self.path.name}.damaged-{number}") for number in itertools.count(1))
        aside = next(name for name in names if not name.exists())
        self.path.rename(aside)
        log.warning("%s: %s; it is %s now, and a new file is begun", self.path, error, aside.name)
        return False


def _write(fd: int, pieces: list[Chunk]) -> None:
    """Write everything; large pieces as they lie in memory."""
    waiting = [memoryview(piece) for piece in pieces]
    at = 0
    while at < len(waiting):
        written = os.writev(fd, waiting[at : at + _MOST_PIECES])
        while at < len(waiting) and written >= len(waiting[at]):
            written -= len(waiting[at])
            at += 1
        if written:
            waiting[at] = waiting[at][written:]

"""The access log: one line of JSON for each request that was answered.

    {"time": "2026-01-31T12:00:00.123Z", "protocol": "grpc", "method": "Predict", "model": "digits", "version": 3,
     "code": "OK", "ms": 1.274, "bytes_in": 3172, "bytes_out": 108, "peer": "127.0.0.1:53122"}

"code" is a gRPC status name or an HTTP status. Never contents. A thread of its own writes: whoever reads the lines
slowly must not hold up requests, so once too many wait, lines are left out and counted.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TextIO

import orjson

#: Lines that may wait to be written; more are left out.
_MOST_WAITING = 20_000
#: What POSIX lets be written to a pipe without another's bytes in between; Linux has as much.
_PIPE_BUF = 4096
#: How long the lines that wait at the end may take to be written.
_FLUSH_S = 2.0


@dataclass(slots=True)
class Subject:
    """What a request turned out to be about; filled in while it is answered."""

    model: str = ""
    version: int | None = None


#: The subject of the request that this task answers; None where nobody keeps a log.
_subject: ContextVar[Subject | None] = ContextVar("subject", default=None)


def note(model: str, version: int | None) -> None:
    """Say which model, and which version of it, the request at hand is about."""
    subject = _subject.get()
    if subject is not None:
        subject.model, subject.version = model, version


def begin() -> Subject:
    """Begin a request: what `note` is told inside this task from now on is kept."""
    subject = Subject()
    _subject.set(subject)
    return subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One request that was answered.

    Attributes:
        protocol: "grpc" or "rest".
        method: "Predict", or "POST /v1/models/digits:predict".
        subject: Model and version.
        code: gRPC status name or HTTP status.
        seconds: From its first byte being handled to its last being handed over.
        bytes_in: Bytes of the request's message or body.
        bytes_out: Bytes of the reply's.
        peer: Address of the client.
    """

    protocol: str
    method: str
    subject: Subject
    code: str | int
    seconds: float
    bytes_in: int
    bytes_out: int
    peer: str

    def line(self, now: float) -> str:
        """Give the line of the log for a request that was answered at a time in seconds since 1970."""
        moment = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "protocol": self.protocol,
            "method": _clean(self.method),
            "model": _clean(self.subject.model),
            "version": self.subject.version,
            "code": self.code,
            "ms": round(self.seconds * 1e3, 3),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "peer": self.peer,
        }
        return orjson.dumps(fields).decode()


def _clean(text: str) -> str:
    # Names come from the wire: of any length, and not always Unicode.
    return text[:500].encode("utf-8", "replace").decode()


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to pieces that a pipe takes whole, since other workers may write to it at the same time."""
    piece, size = "", 0
    for line in lines:
        more = len(line.encode()) + 1
        if piece and size + more > _PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece, size = f"{piece}{line}\n", size + more
    yield piece


class AccessLog:
    """Writes the lines.

    Args:
        out: Where to.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: queue.SimpleQueue[tuple[float, Access] | None] = queue.SimpleQueue()
        self._left_out = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to write."""
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def add(self, access: Access) -> None:
        """Take a request down; never waits. Called on the event loop alone."""
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put((time.time(), access))
        else:
            self._left_out += 1

    def stop(self) -> None:
        """Write what waits, for a short while at most, and end."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(_FLUSH_S)

    def _write(self) -> None:
        entry = self._waiting.get()
        while entry is not None:
            lines = []
            while entry is not None:
                lines.append(entry[1].line(entry[0]))
                if self._waiting.empty() or len(lines) >= 1000:
                    break
                entry = self._waiting.get()
            left_out, self._left_out = self._left_out, 0
            if left_out:
                lines.append(orjson.dumps({"left_out": left_out}).decode())
            try:
                for piece in _pieces(lines):
                    self._out.write(piece)
                    self._out.flush()
            except (OSError, ValueError):  # nobody reads any more, or the disk is full: requests matter more
                self._left_out += len(lines)
            if entry is not None:
                entry = self._waiting.get()

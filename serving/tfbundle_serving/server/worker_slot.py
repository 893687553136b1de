"""One worker as its supervisor sees it: the process, the channel, and when it may be started again."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import time
from enum import Enum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tfbundle_serving.config.models import ModelConfig

from .worker_messages import Job

log = logging.getLogger(__name__)

#: Wait before a worker that died is started again: none the first time, then this, doubled each time up to the most.
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 30.0
#: A worker that lived longer is as good as a new one.
_STEADY_S = 60.0
#: How long a worker whose channel has ended may take to end itself.
_END_S = 10.0


class Phase(Enum):
    """Where a worker is in its life."""

    DOWN = "down"
    STARTING = "starting"
    LOADED = "loaded"
    SYNCING = "syncing"
    OPENING = "opening"
    OPEN = "open"


class Slot:
    """One of N workers; its process may be replaced.

    Args:
        number: From 1.

    Attributes:
        phase: Where its process is.
        models: What its process was last told to serve.
        metrics: What its process last showed; b"" = nothing yet.
        start_at: When the next process may be started, as time.monotonic() counts.
        connection: The channel to the process; None where there is none.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.phase = Phase.DOWN
        self.models: tuple[ModelConfig, ...] = ()
        self.metrics = b""
        self.start_at = 0.0
        self.connection: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._wait_s = 0.0

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid if self._process else 0

    def start(self, job: Job) -> None:
        """Start a process."""
        here, there = Pipe()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tfbundle_serving.server.worker_process", str(there.fileno())],
                pass_fds=[there.fileno(), *([] if job.path_fd is None else [job.path_fd])],
                stdin=subprocess.DEVNULL,
                # Otherwise Ctrl-C would reach it as well.
                start_new_session=True,
            )
        self.connection, self.phase, self.models = here, Phase.STARTING, job.settings.models
        self._begun = time.monotonic()
        self.send(job)

    def send(self, message: Any) -> None:
        """Tell the process something; one that has died is found out when its channel is read."""
        if self.connection is not None:
            with contextlib.suppress(OSError):
                self.connection.send(message)

    def ask_to_stop(self) -> None:
        """Let it drain and end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    def bury(self) -> str:
        """Take note that the process has ended or is about to.

        Returns:
            How it ended, for a person.
        """
        process, connection = self._process, self.connection
        assert process is not None
        assert connection is not None
        connection.close()
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self.connection, self._process, self.phase = None, None, Phase.DOWN
        now = time.monotonic()
        if now - self._begun > _STEADY_S:
            self._wait_s = 0.0
        self.start_at = now + self._wait_s
        self._wait_s = min(max(2 * self._wait_s, _FIRST_WAIT_S), _MOST_WAIT_S)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

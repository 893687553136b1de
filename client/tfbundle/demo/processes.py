"""The demo's child processes: each is seen to its end, however the demo ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

from tfbundle_serving.apis.errors import BundleError

#: How long a child may take to end after SIGTERM, in seconds.
GRACE_S = 15.0


class Children:
    """Starts processes, each leading a group of its own, and ends every group on the way out.

    Ctrl-C, SIGTERM and a closed terminal leave the block as KeyboardInterrupt, so that nothing stays behind.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> Children:
        """Turn the signals that end a process into KeyboardInterrupt."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs, newest first; no second signal stops this."""
        for number in self._handlers:
            signal.signal(number, signal.SIG_IGN)
        try:
            for child in reversed(self._running):
                self._end(child)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def start(self, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start `python -m ...` in the background, its output going to a file."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
            )
        self._running.append(child)
        return child

    def run(self, arguments: Sequence[str], log: Path) -> None:
        """Run `python -m ...` to its end.

        Raises:
            BundleError: It failed; the message has the last line of its output and where the rest lies.
        """
        child = self.start(arguments, log)
        code = child.wait()
        self._running.remove(child)
        if code:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise BundleError(f"`{' '.join(arguments[:2])}` ended with {code}: {lines[-1]} (its output: {log})")

    def stop(self, child: subprocess.Popen[bytes]) -> int:
        """End one process as an operator would, with SIGTERM, and give its exit code."""
        code = self._end(child)
        self._running.remove(child)
        return code

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        if child.poll() is None:
            _signal_group(child, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
        # What the child itself started, and the child if it does not listen.
        _signal_group(child, signal.SIGKILL)
        return child.wait()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the form that signal.signal wants
    raise KeyboardInterrupt


def wait_for_file(path: Path, child: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Wait until a process has written a file.

    Raises:
        BundleError: It ended, or took too long.
    """
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if child.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise BundleError(f"the server ended with {child.returncode}: {lines[-1]} (its output: {log})")
        if time.monotonic() > deadline:
            raise BundleError(f"the server did not listen within {timeout_s:.0f} s (its output: {log})")
        time.sleep(0.05)

"""The server as a process: runs until SIGTERM or SIGINT, then drains; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .lifecycle import Server, StartCancelledError
from .output import silent_stderr

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(server: Server, on_started: Callable[[Server], None]) -> None:
    """Start a server, serve until a signal comes, and stop it.

    Args:
        server: Not yet started.
        on_started: Called once it listens.

    Raises:
        BundleError: It could not be started.
    """
    asked = threading.Event()
    with _signals(asked):
        try:
            server.start(asked, importing=silent_stderr)
        except StartCancelledError:
            return
        try:
            on_started(server)
            asked.wait()
        finally:
            server.stop()


@contextmanager
def _signals(asked: threading.Event) -> Iterator[None]:
    def handle(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Something is done again and again until the process is told to stop, as a sidecar container is."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tfbundle_serving.apis.errors import BundleError


def keep_watching(look: Callable[[], None], *, every_s: float, stop: threading.Event | None = None) -> None:
    """Look at once and then again and again; what fails is said, once as long as it stays the same, and tried again.

    Args:
        look: Does what there is to do.
        every_s: Seconds between the end of one look and the next.
        stop: Ends it; so do SIGTERM and SIGINT.
    """
    stop = stop or threading.Event()
    said = ""
    with _stopped_by_signals(stop):
        while not stop.is_set():
            try:
                look()
                said = ""
            except (BundleError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    print(f"error: {said} (tried again every {every_s:g} s)", file=sys.stderr, flush=True)
            stop.wait(every_s)


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be set
        yield
        return
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = {kind: signal.signal(kind, lambda *_: stop.set()) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)

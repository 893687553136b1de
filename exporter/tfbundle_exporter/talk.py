"""What the exporter says on standard error while a command runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .progress import STEP


@contextmanager
def talk(*, wanted: bool) -> Iterator[None]:
    """Show the exporter's log lines on stderr, and on a terminal the step that is under way.

    Args:
        wanted: Whether anything below a warning is said.
    """
    logger = logging.getLogger(__package__)
    handler = _Lines()
    level, propagates = logger.level, logger.propagate
    # TensorFlow may have given the root logger a handler of its own, which would say everything once more.
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(STEP if wanted else logging.WARNING)
    try:
        yield
    finally:
        handler.end()
        logger.setLevel(level)
        logger.propagate = propagates
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    """A line for each thing done; a spinner with its name for the thing being done."""

    def __init__(self) -> None:
        super().__init__()
        self._spinner: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        self.end()
        if record.levelno != STEP:
            print(record.getMessage(), file=sys.stderr)
        elif sys.stderr is not None and sys.stderr.isatty():
            self._spin(record.getMessage())

    def _spin(self, text: str) -> None:
        from rich.console import Console

        self._spinner = Console(stderr=True).status(f"{text} ...")
        self._spinner.start()

    def end(self) -> None:
        """Take the spinner off the terminal."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

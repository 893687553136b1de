"""How far a long command is: a bar on a terminal, a line now and then in a log; always on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

#: Seconds between lines where there is no terminal.
_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """Is told how far the work is."""

    def reach(self, rows: int) -> None:
        """Note that so many rows are done."""


class _Lines:
    def __init__(self, what: str, total: int | None, start: int, clock: Callable[[], float]) -> None:
        self._what, self._total, self._start, self._clock = what, total, start, clock
        self._started_at_s = self._said_at_s = clock()

    def reach(self, rows: int) -> None:
        now_s = self._clock()
        if now_s - self._said_at_s < _LINE_EVERY_S:
            return
        self._said_at_s = now_s
        rate = (rows - self._start) / (now_s - self._started_at_s)
        of, left = "", ""
        if self._total is not None:
            of = f" of {self._total:,}"
            left = f", {(self._total - rows) / rate:,.0f} s left" if rate else ""
        print(f"{self._what}: {rows:,}{of} rows, {rate:,.0f} rows/s{left}", file=sys.stderr, flush=True)


@contextmanager
def open_progress(
    what: str, total: int | None, start: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Show progress for the length of a block.

    Args:
        what: What is done.
        total: All rows; None where that is not known.
        start: Rows that were done before.
        clock: Gives seconds.
    """
    if not sys.stderr.isatty():
        yield _Lines(what, total, start, clock)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(TextColumn):
        """Rows a second."""

        def render(self, task: object) -> Text:
            speed = getattr(task, "speed", None)
            return Text("" if speed is None else f"{speed:,.0f} rows/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what.replace("[", "\\["), total=total, completed=start)

        class Reach:
            def reach(self, rows: int) -> None:
                bar.update(task, completed=rows)

        yield Reach()

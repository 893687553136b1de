"""How far a transfer is: a bar on a terminal, nothing elsewhere and nothing for what is done in a moment."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Less than this is over before anybody reads a bar.
_WORTH_BYTES = 8 << 20


@contextmanager
def open_progress(what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Show progress for the length of a block.

    Args:
        what: What is done.
        total_bytes: All of it.

    Yields:
        A function that is told of bytes that have travelled; it may be called from any thread.
    """
    if total_bytes < _WORTH_BYTES or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(what), total=total_bytes)
        yield lambda count: bar.advance(task, count)

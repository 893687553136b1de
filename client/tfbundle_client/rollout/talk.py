"""Who is told the steps of a rollout, one line each."""

from __future__ import annotations

from collections.abc import Callable

#: Is told one line.
Say = Callable[[str], None]


def quietly(line: str) -> None:
    """Say nothing."""
    del line

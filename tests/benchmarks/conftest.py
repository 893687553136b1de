"""Interleaved timing, and a table of what was measured at the end of the run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

_ROWS = pytest.StashKey[list[tuple[str, str, str]]]()


def medians(runs: Mapping[str, Callable[[], Any]], *, rounds: int = 9, calls: int = 1) -> dict[str, float]:
    """Measure several functions in turn, so that a busy moment of the machine falls on all of them.

    Args:
        runs: Name to function.
        rounds: Measurements of each; the first is a warm-up and thrown away.
        calls: Calls in one measurement.

    Returns:
        Name to median seconds of processor time for one call.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, function in runs.items():
            start = time.process_time()
            for _ in range(calls):
                function()
            times[name].append((time.process_time() - start) / calls)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


class Report:
    """Collects lines for the table."""

    def __init__(self, rows: list[tuple[str, str, str]]) -> None:
        self._rows = rows

    def ratio(self, what: str, value: float, target: float, *, at_most: bool) -> None:
        """Note a ratio and hold it against its target."""
        sign = "<=" if at_most else ">="
        self._rows.append((what, f"{value:.2f} x", f"{sign} {target:g} x"))
        assert value <= target if at_most else value >= target, f"{what}: {value:.2f}, target {sign} {target:g}"

    def time(self, what: str, seconds: float, *, at_most: float | None = None) -> None:
        """Note a time, and hold it against its target where there is one."""
        target = "" if at_most is None else f"<= {_time(at_most)}"
        self._rows.append((what, _time(seconds), target))
        assert at_most is None or seconds <= at_most, f"{what}: {_time(seconds)}, target {target}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if abs(seconds) > 1e-3 else f"{seconds * 1e6:.1f} us"


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """The table that is printed when the run ends."""
    return Report(request.config.stash.setdefault(_ROWS, []))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    terminalreporter.section("measured (medians of interleaved runs, processor time)")
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for what, value, target in rows:
        terminalreporter.write_line(f"{what:<{widths[0]}}  {value:>{widths[1]}}  {target:>{widths[2]}}")

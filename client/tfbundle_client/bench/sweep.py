"""The search for the highest rate that keeps a bound: doubling until a rate does not, then halving the gap.

The decisions are functions of the steps so far; who measures a step is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .measurement import LATE_S, LATE_SHARE, Measurement

#: The search ends when the gap between a rate that holds and one that does not is that share of the former.
PRECISION = 0.05
#: Steps at most; each costs its full time.
MOST_STEPS = 16
#: Below that rate a p99 would take minutes to measure.
LOWEST_RATE = 1.0
#: A rate counts as kept up with when that share of what was offered was answered while it was offered.
KEPT_UP = 0.98
#: A p99 rests on two requests above it, at least.
_REQUESTS_A_STEP = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rate holds.

    Attributes:
        holds: Whether it does.
        reason: Why not; "" where it does.
        is_ours: Whether it was the generator that did not keep up, so that nothing is said of the server.
    """

    holds: bool
    reason: str = ""
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried."""

    rate: float
    measurement: Measurement
    verdict: Verdict


def judge(measurement: Measurement, p99_s: float) -> Verdict:
    """Say whether a run at a rate keeps the bound.

    Args:
        measurement: An open loop's.
        p99_s: The bound, in seconds; failed requests count as slower than any bound.
    """
    p99 = measurement.percentile(99.0)
    if p99 is None:
        return Verdict(False, f"p99 {measurement.why_not(99.0)}")
    if math.isinf(p99):
        return Verdict(False, f"{measurement.failed_share:.1%} of the requests failed")
    falls_short = p99 > p99_s or measurement.achieved_rate < KEPT_UP * measurement.offered_rate
    if falls_short and measurement.late_share > LATE_SHARE:
        late = f"{measurement.late_share:.1%} sent over {LATE_S * 1e3:g} ms late"
        return Verdict(False, f"the generator does not keep up: {late}", is_ours=True)
    if p99 > p99_s:
        return Verdict(False, f"p99 {p99 * 1e3:.3g} ms is above {p99_s * 1e3:g} ms")
    # What was sent within the bound before the end is answered after it.
    slack = measurement.load.duration_s / (measurement.load.duration_s + p99_s)
    if measurement.achieved_rate < KEPT_UP * slack * measurement.requests / measurement.load.duration_s:
        return Verdict(False, f"answered {measurement.achieved_rate:.4g} of {measurement.offered_rate:.4g} a second")
    return Verdict(True)


def next_rate(steps: Sequence[Step], first: float) -> float | None:
    """Say which rate to try next.

    Args:
        steps: What was tried.
        first: The rate to begin with.

    Returns:
        Requests a second; None when the search is over.
    """
    if not steps:
        return first
    if len(steps) >= MOST_STEPS:
        return None
    good, bad = _bracket(steps)
    if bad is None:
        assert good is not None
        return good * 2
    if good is None:
        return bad / 2 if bad / 2 >= LOWEST_RATE else None
    return None if bad - good <= PRECISION * good else (good + bad) / 2


def _bracket(steps: Sequence[Step]) -> tuple[float | None, float | None]:
    """Give the highest rate that holds below the lowest that does not, and that one."""
    bad = min((step.rate for step in steps if not step.verdict.holds), default=None)
    good = max((step.rate for step in steps if step.verdict.holds and (bad is None or step.rate < bad)), default=None)
    return good, bad


def highest(steps: Sequence[Step]) -> Step | None:
    """Give the step with the highest rate that holds; None where none does."""
    good, _ = _bracket(steps)
    return next((step for step in steps if step.rate == good and step.verdict.holds), None)


def limit(steps: Sequence[Step]) -> Step | None:
    """Give the step with the lowest rate that does not hold; None where all do."""
    _, bad = _bracket(steps)
    return next((step for step in steps if step.rate == bad), None)


def step_duration_s(rate: float, duration_s: float) -> float:
    """Give the seconds that a step takes: as long as asked, and long enough for a p99."""
    return max(duration_s, _REQUESTS_A_STEP / rate)


def sweep_to_json(steps: Sequence[Step], p99_s: float) -> dict[str, Any]:
    """Give a search as JSON values."""
    best, worst = highest(steps), limit(steps)
    return {
        "p99_bound_ms": p99_s * 1e3,
        "highest_rate": None if best is None else best.rate,
        "lowest_failing_rate": None if worst is None else worst.rate,
        "limited_by_generator": worst is not None and worst.verdict.is_ours,
        "steps": [
            {
                "rate": step.rate,
                "holds": step.verdict.holds,
                "reason": step.verdict.reason,
                **step.measurement.to_json(),
            }
            for step in steps
        ],
    }

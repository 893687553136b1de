"""How much slower a canary answers, told from pairs of requests, and how far such a ratio can be trusted.

Both versions are asked the same request right after each other, in alternating order, so that a busy moment of the
machine falls on both. How sure a ratio is, is told by drawing the pairs anew (the bootstrap): what a few slow answers
alone make of it is then no finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Request = TypeVar("Request")

#: So many pairs are timed at most, and for so long.
PAIRS = 400
SECONDS = 15.0
#: Pairs that go before and are not counted: the first requests of a version find nothing in any cache.
_UNCOUNTED = 10
_DRAWS = 1000
#: The true ratio is within the interval nine times out of ten.
_INTERVAL = (5.0, 95.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times a quantile of the canary is that of the stable version.

    Attributes:
        stable_s: The stable version's, in seconds.
        canary_s: The canary's.
        low: The ratio is above this with a probability of 95 %.
        high: It is below this with a probability of 95 %.
    """

    stable_s: float
    canary_s: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The ratio that was measured."""
        return self.canary_s / self.stable_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFigures:
    """Seconds of the same requests with both versions.

    Attributes:
        stable_s: With the stable version.
        canary_s: With the canary, in the same order.
    """

    stable_s: tuple[float, ...] = ()
    canary_s: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.stable_s)

    def ratio(self, percent: float) -> Ratio | None:
        """Give the ratio of a percentile; None where nothing was timed."""
        if not self.stable_s:
            return None
        pairs = np.array([self.stable_s, self.canary_s])
        draws = np.random.default_rng(0).integers(0, pairs.shape[1], (_DRAWS, pairs.shape[1]))
        drawn = np.percentile(pairs[:, draws], percent, axis=2)
        low, high = np.percentile(drawn[1] / drawn[0], _INTERVAL)
        stable_s, canary_s = np.percentile(pairs, percent, axis=1)
        return Ratio(stable_s=float(stable_s), canary_s=float(canary_s), low=float(low), high=float(high))


def time_pairs(
    requests: Sequence[Request],
    stable: Callable[[Request], object],
    canary: Callable[[Request], object],
    *,
    pairs: int = PAIRS,
    seconds: float = SECONDS,
) -> LatencyFigures:
    """Ask both versions the same requests by turns.

    Args:
        requests: Asked from the first on, and again from the first where there are fewer than pairs.
        stable: Asks the stable version.
        canary: Asks the canary.
        pairs: How many are timed at most.
        seconds: How long at most; at least one pair is timed.
    """
    if not requests or pairs < 1:
        return LatencyFigures()
    took_s: NDArray[np.float64] = np.zeros((2, pairs))
    end = time.monotonic() + seconds
    uncounted = min(_UNCOUNTED, pairs)
    counted = 0
    for number in range(uncounted + pairs):
        request = requests[number % len(requests)]
        for side in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            (canary if side else stable)(request)
            took_s[side, counted] = time.perf_counter() - begun
        if number >= uncounted:
            counted += 1
            if time.monotonic() > end:
                break
    stable_s, canary_s = took_s[:, :counted].tolist()
    return LatencyFigures(stable_s=tuple(stable_s), canary_s=tuple(canary_s))

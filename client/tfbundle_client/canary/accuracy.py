"""Which of two versions is right more often, where the true classes are known, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A difference that chance alone makes less often than this is none of chance.
SIGNIFICANCE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFigures:
    """Right and wrong answers of both versions to the same rows.

    Attributes:
        rows: Rows with a true class.
        both: Rows that both got right.
        only_stable: Rows that only the stable version got right.
        only_canary: Rows that only the canary got right.
    """

    rows: int = 0
    both: int = 0
    only_stable: int = 0
    only_canary: int = 0

    def __add__(self, other: AccuracyFigures) -> AccuracyFigures:
        """Put the figures of more rows to these."""
        return AccuracyFigures(
            rows=self.rows + other.rows,
            both=self.both + other.both,
            only_stable=self.only_stable + other.only_stable,
            only_canary=self.only_canary + other.only_canary,
        )

    @property
    def stable(self) -> float:
        """Accuracy of the stable version."""
        return (self.both + self.only_stable) / self.rows if self.rows else 0.0

    @property
    def canary(self) -> float:
        """Accuracy of the canary."""
        return (self.both + self.only_canary) / self.rows if self.rows else 0.0

    @property
    def p_value(self) -> float:
        """How likely a difference of this size is if both are equally good."""
        return mcnemar(self.only_stable, self.only_canary)

    @property
    def is_certain(self) -> bool:
        """Whether the difference is more than chance."""
        return self.p_value < SIGNIFICANCE


def compare_accuracy(stable: NDArray[Any], canary: NDArray[Any], truth: NDArray[Any]) -> AccuracyFigures:
    """Count right answers.

    Args:
        stable: The stable version's class of each row, (n,).
        canary: The canary's.
        truth: The true ones.
    """
    old, new = np.asarray(stable == truth, bool), np.asarray(canary == truth, bool)
    return AccuracyFigures(
        rows=len(truth),
        both=int((old & new).sum()),
        only_stable=int((old & ~new).sum()),
        only_canary=int((~old & new).sum()),
    )


def mcnemar(one: int, other: int) -> float:
    """Give the two-sided p value of McNemar's exact test.

    Rows on which two classifiers are both right or both wrong tell nothing of which is better; each of the others is
    a throw of a fair coin if they are equally good.

    Args:
        one: Rows that only the one got right.
        other: Rows that only the other got right.

    Source: McNemar, Psychometrika 12 (1947), by the binomial distribution itself.
    """
    throws = one + other
    if throws == 0:
        return 1.0
    # Whole numbers: 2 ** throws is beyond a float's range for a thousand rows.
    tail = ways = 1
    for heads in range(1, min(one, other) + 1):
        ways = ways * (throws - heads + 1) // heads
        tail += ways
    return min(1.0, 2 * tail / (1 << throws)) if 2 * tail < 1 << throws else 1.0

"""What two versions' answers to the same rows have in common, in figures that add up block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import tolerance_for

from .views import TINY, Kind, View, best_classes, probabilities, real

#: A version is sure of a class that it gives this probability.
SURE = 0.9
#: A row of numbers agrees if it is off by at most half the spread that the stable version's rows have among themselves,
#: root mean square over the row. Two good regressions (each explains 90 % of the variance) differ by a fifth to two
#: fifths of it.
NEAR = 0.5
#: More classes than that (free text) are not counted one by one.
_MAX_CLASSES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFigures:
    """One output of one signature: what the canary's answers are beside the stable version's.

    Attributes:
        kind: What the output is.
        rows: Rows compared; of outputs with a class for each place of a row, all places.
        agreeing: Rows with the same answer, ties within rounding counted as the same.
        identical: Rows whose answers differ by rounding at most.
        sure: Rows of which the stable version was sure (at least 0.9).
        flipped: Those of them to which the canary gives another class.
        not_finite: Rows in which the canary gives a NaN or infinity where the stable version gives none.
        mismatched: Rows whose answers have another shape or dtype; they agree in nothing.
        trouble: What the first of these looked like.
        stable_classes: Class to its number of rows; empty for values.
        canary_classes: The same.
        left: Class to the rows that were of it and are of another with the canary.
        entered: Class to the rows that were of another and are of it with the canary.
        shift: Sum over rows of how far the canary's values are above the stable version's, in units of its spread.
        distance: Sum over rows of how far they are off, the same unit.
    """

    kind: Kind
    rows: int = 0
    agreeing: float = 0.0
    identical: int = 0
    sure: int = 0
    flipped: int = 0
    not_finite: int = 0
    mismatched: int = 0
    trouble: str = ""
    stable_classes: Mapping[Any, int] = field(default_factory=dict)
    canary_classes: Mapping[Any, int] = field(default_factory=dict)
    left: Mapping[Any, int] = field(default_factory=dict)
    entered: Mapping[Any, int] = field(default_factory=dict)
    shift: float = 0.0
    distance: float = 0.0

    def __add__(self, other: OutputFigures) -> OutputFigures:
        """Put the figures of more rows to these."""
        joined: dict[str, Any] = {"kind": self.kind, "trouble": self.trouble or other.trouble}
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Mapping):
                joined[each.name] = _add(mine, its)
            elif each.name not in joined:
                joined[each.name] = mine + its
        return OutputFigures(**joined)

    @property
    def agreement(self) -> float | None:
        """Share of rows with the same answer."""
        return self.agreeing / self.rows if self.rows else None

    @property
    def class_shift(self) -> float | None:
        """Share of rows that the frequencies of the classes moved by (total variation); None without classes."""
        total = sum(self.stable_classes.values())
        if not total or len(self.stable_classes) >= _MAX_CLASSES:
            return None
        names = self.stable_classes.keys() | self.canary_classes.keys()
        moved = sum(abs(self.canary_classes.get(name, 0) - self.stable_classes.get(name, 0)) for name in names)
        return moved / 2 / total

    @property
    def mean_shift(self) -> float | None:
        """How far the mean moved, in units of the stable version's spread; None for classes."""
        return self.shift / self.rows if self.kind == "values" and self.rows else None


def _add(left: Mapping[Any, int], right: Mapping[Any, int]) -> Mapping[Any, int]:
    found = Counter(left)
    for name, count in right.items():
        if name in found or len(found) < _MAX_CLASSES:
            found[name] += count
    return dict(found)


def compare_answers(stable: NDArray[Any], canary: NDArray[Any], view: View) -> OutputFigures:
    """Hold the answers to the same rows against each other.

    Args:
        stable: The stable version's answers, rows first.
        canary: The canary's.
        view: What the output is.
    """
    rows = stable.shape[0] if stable.ndim else 1
    kinds = [array.dtype.kind if array.dtype.kind not in "OSU" else "O" for array in (stable, canary)]
    if stable.shape != canary.shape or kinds[0] != kinds[1]:
        trouble = f"{stable.dtype.name} {stable.shape}, with the canary {canary.dtype.name} {canary.shape}"
        return OutputFigures(kind=view.kind, rows=rows, mismatched=rows, trouble=trouble)
    if not stable.ndim:
        stable, canary = stable.reshape(1), canary.reshape(1)
    if stable.size == 0:
        return OutputFigures(kind=view.kind)
    if view.has_classes:
        return _compare_classes(stable, canary, view)
    return _compare_values(stable, canary, view)


def _compare_classes(stable: NDArray[Any], canary: NDArray[Any], view: View) -> OutputFigures:
    before, after = best_classes(stable, view), best_classes(canary, view)
    same = np.asarray(before == after, bool)
    figures: dict[str, Any] = {"identical": int(same.sum())}
    if view.tells_certainty:
        old, new = probabilities(stable, view), probabilities(canary, view)
        rows = np.arange(len(old))
        slack = 2 * tolerance_for(stable.dtype).atol + tolerance_for(stable.dtype).rtol * 2
        with np.errstate(invalid="ignore"):
            best = old[rows, before]
            tied = best - old[rows, after] <= slack
            sure = (best >= SURE) & np.isfinite(old).all(axis=1)
            rounding = np.abs(old - new).max(axis=1) <= slack
        figures["identical"] = int(rounding.sum())
        lost = np.isfinite(old).all(axis=1) & ~np.isfinite(new).all(axis=1)
        same = (same | tied) & ~lost
        figures |= {"sure": int(sure.sum()), "flipped": int((sure & ~same).sum()), "not_finite": int(lost.sum())}
    changed = ~same
    return OutputFigures(
        kind=view.kind,
        rows=len(same),
        agreeing=float(same.sum()),
        stable_classes=_count(before),
        canary_classes=_count(after),
        left=_count(before[changed]),
        entered=_count(after[changed]),
        **figures,
    )


def _count(classes: NDArray[Any]) -> Mapping[Any, int]:
    found = Counter(classes.tolist()).most_common(_MAX_CLASSES)
    return dict(found)


def _compare_values(stable: NDArray[Any], canary: NDArray[Any], view: View) -> OutputFigures:
    old, new = real(stable), real(canary)
    rows = len(old)
    unit = view.unit if view.unit is not None else np.ones(old.shape[1:])
    if unit.shape != old.shape[1:]:
        # Rows of another length than the first ones: one spread stands for all places.
        unit = np.full(old.shape[1:], float(np.median(unit)) if unit.size else TINY)
    slack = tolerance_for(stable.dtype.name)
    with np.errstate(invalid="ignore", over="ignore"):
        off = (new - old).reshape(rows, -1)
        known = np.isfinite(old).reshape(rows, -1)
        equal = ((old == new) | (np.isnan(old) & np.isnan(new))).reshape(rows, -1)
        off = np.where(equal, 0.0, off)
        scaled = off / unit.reshape(1, -1)
        distance = np.sqrt(np.mean(np.square(scaled), axis=1))
        rounding = (np.abs(scaled) <= slack.atol + slack.rtol * np.abs(old / unit).reshape(rows, -1)).all(axis=1)
    lost = (known & ~np.isfinite(new).reshape(rows, -1)).any(axis=1)
    near = np.isfinite(distance) & (distance <= NEAR)
    countable = np.isfinite(distance)
    return OutputFigures(
        kind="values",
        rows=rows,
        agreeing=float((near | rounding).sum()),
        identical=int(rounding.sum()),
        not_finite=int(lost.sum()),
        shift=float(scaled[countable].mean(axis=1).sum()) if countable.any() else 0.0,
        distance=float(distance[countable].sum()),
    )

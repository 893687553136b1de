"""What an output is, so that two versions' answers can be held against each other.

It is told once, by the first answers of the stable version (`choose_view`):

    probabilities   rows of floats from 0 to 1 that sum to 1: the best class counts, and how sure the version was of it
    logits          floats whose output is called so, or that the caller names as classes: the same after a softmax
    binary          one float from 0 to 1 a row, in the output that the caller names as classes: above 0.5 is class 1
    labels          strings, integers and bools: equal or not; of rows of strings the first, the best of a top-k list
    values          any other numbers: near or not, in units of the stable version's own spread
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["probabilities", "logits", "binary", "labels", "values"]

#: Rows sum to 1 within this, which bfloat16 needs.
_SUM_TOLERANCE = 0.02
#: The spread of a normal distribution between its quartiles.
_QUARTILES = 1.349
#: Where all rows are the same, a thousandth of their size is their spread.
_CONSTANT = 1e-3
#: No spread is less.
TINY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How the answers of one output are seen.

    Attributes:
        kind: See the module.
        unit: Of values, the stable version's spread: an array of a row's shape.
    """

    kind: Kind
    unit: NDArray[np.float64] | None = None

    @property
    def has_classes(self) -> bool:
        """Whether a row's answer is one of some classes, so that there are right and wrong ones."""
        return self.kind != "values"

    @property
    def tells_certainty(self) -> bool:
        """Whether answers say how sure the version is of them."""
        return self.kind in ("probabilities", "logits", "binary")


def choose_view(stable: NDArray[Any], name: str, *, are_classes: bool = False) -> View:
    """Tell what an output is.

    Args:
        stable: The stable version's first answers, rows first.
        name: The output's name.
        are_classes: Whether the caller says that it predicts classes.
    """
    stable = stable.reshape(1) if not stable.ndim else stable
    if stable.dtype.kind in "OSUbiu":
        return View(kind="labels")
    if stable.dtype.kind == "c" or stable.size == 0:
        return View(kind="values", unit=_spread(stable))
    wide = stable.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    is_share = bool(finite.size) and float(finite.min()) >= -TINY and float(finite.max()) <= 1 + _SUM_TOLERANCE
    if stable.ndim >= 2 and stable.shape[-1] >= 2:
        sums = wide.sum(axis=-1)
        sums = sums[np.isfinite(sums)]
        if is_share and sums.size and bool((np.abs(sums - 1) <= _SUM_TOLERANCE).all()):
            return View(kind="probabilities")
        if are_classes or "logit" in name.lower():
            return View(kind="logits")
    elif are_classes and is_share:
        return View(kind="binary")
    return View(kind="values", unit=_spread(stable))


def _spread(stable: NDArray[Any]) -> NDArray[np.float64]:
    """Give the spread of each place of a row over the rows, by the quartiles, which a few outliers do not move."""
    if stable.size == 0:
        return np.full(stable.shape[1:], TINY)
    wide = real(stable)
    with np.errstate(all="ignore"):
        wide = np.where(np.isfinite(wide), wide, np.nan)
        known = np.where(np.isnan(wide), 0.0, wide)
        size = np.median(np.abs(known), axis=0)
        low, high = np.percentile(known, (25, 75), axis=0)
        robust = (high - low) / _QUARTILES
        spread = np.where(robust > 0, robust, known.std(axis=0))
    return np.asarray(np.maximum(spread, np.maximum(_CONSTANT * size, TINY)), np.float64)


def real(array: NDArray[Any]) -> NDArray[np.float64]:
    """See numbers as float64, complex ones by a pair for each."""
    if array.dtype.kind == "c":
        wide = np.ascontiguousarray(array, np.complex128)
        return np.stack([wide.real, wide.imag], axis=-1)
    return array.astype(np.float64)


def best_classes(answers: NDArray[Any], view: View) -> NDArray[Any]:
    """Give the class of each row, or of each place of a row, flat.

    Raises:
        ValueError: The output has no classes.
    """
    if view.kind in ("probabilities", "logits"):
        return np.asarray(np.argmax(np.nan_to_num(answers.astype(np.float64), nan=-np.inf), axis=-1)).reshape(-1)
    if view.kind == "binary":
        return (answers.reshape(-1) > 0.5).astype(np.int64)
    if view.kind == "labels":
        return (answers[:, 0] if _is_ranking(answers) else answers).reshape(-1)
    raise ValueError("values are no classes")


def _is_ranking(answers: NDArray[Any]) -> bool:
    return answers.dtype.kind in "OSU" and answers.ndim == 2 and answers.shape[1] > 0


def probabilities(answers: NDArray[Any], view: View) -> NDArray[np.float64]:
    """Give a table of rows and the probabilities of classes; a row with a value that is not finite is NaN all along."""
    if view.kind == "binary":
        ones = answers.reshape(-1).astype(np.float64)
        return np.stack([1 - ones, ones], axis=1)
    table = answers.reshape(-1, answers.shape[-1]).astype(np.float64)
    table = np.where(np.isfinite(table).all(axis=1, keepdims=True), table, np.nan)
    if view.kind == "probabilities":
        return table
    with np.errstate(invalid="ignore"):
        powers = np.exp(table - table.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

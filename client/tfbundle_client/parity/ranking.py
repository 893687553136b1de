"""Whether the k best classes of each row are the same; entries that are tied within the tolerance may swap places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import Tolerance

#: How many of the best classes are compared besides the very best.
TOP_K = 5


def top_k_agreement(expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance, k: int = TOP_K) -> float | None:
    """Give the share of rows whose k largest entries are the same classes.

    A class that is among the actual k best counts as right if its expected score is within the tolerance of the k-th
    best expected score: such ties are no disagreement.

    Args:
        expected: Scores, (..., classes).
        actual: The same from the other side.
        tolerance: By how much a score may be off.
        k: How many classes.

    Returns:
        A share from 0 to 1; None where the array is no table of scores of more than k classes.
    """
    if expected.shape != actual.shape or expected.ndim < 2 or expected.size == 0:
        return None
    width = expected.shape[-1]
    if width <= k or expected.dtype.kind in "SUObc" or actual.dtype.kind in "SUObc":
        return None
    left = expected.reshape(-1, width).astype(np.float64)
    right = actual.reshape(-1, width).astype(np.float64)
    # Stable sorts of the negated scores: equal scores keep the order of their classes on both sides. NaNs come last.
    wanted = np.argsort(-left, axis=1, kind="stable")[:, :k]
    got = np.argsort(-right, axis=1, kind="stable")[:, :k]
    threshold = np.take_along_axis(left, wanted[:, -1:], axis=1)
    scores = np.take_along_axis(left, got, axis=1)
    with np.errstate(invalid="ignore"):
        # Both the entry and the one that it stands in for may be off.
        slack = 2 * tolerance.atol + tolerance.rtol * (np.abs(threshold) + np.abs(scores))
        tied = scores >= threshold - slack
    same = (np.sort(wanted, axis=1) == np.sort(got, axis=1)).all(axis=1)
    return float(np.mean(same | tied.all(axis=1)))

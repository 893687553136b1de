"""Whether two tensors are the same answer, and by how much they differ: one rule for the gate and for parity.

Shape and dtype must be equal. Floats may differ by atol + rtol * |expected|, with atol scaled by the size of the output
(root mean square), because a value near zero carries the rounding of its larger neighbours; relative difference and
units in the last place are therefore reported, never decided by. NaN equals NaN at the same place, infinities must have
the same sign, everything else is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .errors import InvalidArgument

#: How many of the elements that differ are shown.
WORST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a value may be from the expected one: atol + rtol * |expected|."""

    rtol: float = 0.0
    atol: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no distance."""
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not value >= 0 or math.isinf(value):
                raise InvalidArgument(f"{name} must be a number of at least 0, got {value}")

    def __str__(self) -> str:
        """Show both numbers as a report does."""
        return f"rtol {self.rtol:.3g}, atol {self.atol:.3g}" if self.rtol or self.atol else "exact"


EXACT = Tolerance()

#: numpy dtype to tolerance for outputs of unit size, source and served version on devices of one class. Measured
#: noise of float32 on a CPU (another batch size, XLA) is at most 8e-7 absolute.
_TOLERANCES = {
    "float64": Tolerance(rtol=1e-9, atol=1e-12),
    "float32": Tolerance(rtol=1e-5, atol=1e-6),
    "float16": Tolerance(rtol=1e-3, atol=1e-3),
    "bfloat16": Tolerance(rtol=1.6e-2, atol=1e-2),
    "complex64": Tolerance(rtol=1e-5, atol=1e-6),
    "complex128": Tolerance(rtol=1e-9, atol=1e-12),
}
#: The same for a CPU against a GPU, whose TF32 mode cuts inputs to ten bits of mantissa.
_TOLERANCES_ACROSS_DEVICES = {
    **_TOLERANCES,
    "float32": Tolerance(rtol=1e-3, atol=1e-4),
    "complex64": Tolerance(rtol=1e-3, atol=1e-4),
}


def tolerance_for(
    dtype: np.dtype[Any] | type[Any] | str, *, rms: float = 1.0, across_devices: bool = False
) -> Tolerance:
    """Give the tolerance that applies where a caller names none.

    Args:
        dtype: dtype of the output; integers, bools and strings are exact.
        rms: Root mean square of the expected output; atol grows with it above 1.
        across_devices: The two answers come from devices of different classes, a CPU and a GPU.
    """
    table = _TOLERANCES_ACROSS_DEVICES if across_devices else _TOLERANCES
    found = table.get(dtype if isinstance(dtype, str) else np.dtype(dtype).name)
    if found is None:
        return EXACT
    return Tolerance(rtol=found.rtol, atol=found.atol * (max(1.0, rms) if math.isfinite(rms) else 1.0))


@dataclass(frozen=True, slots=True)
class Difference:
    """One element that differs by more than the tolerance.

    Attributes:
        index: Where it is, one number a dimension.
        expected: The value that was expected, as a Python scalar.
        actual: The value that came.
    """

    index: tuple[int, ...]
    expected: Any
    actual: Any

    def __str__(self) -> str:
        """Show place and both values."""
        return f"at {list(self.index)} expected {_show(self.expected)}, got {_show(self.actual)}"


def _show(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, (float, complex)) else f"{value!r:.80}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the comparison of two tensors gave.

    Attributes:
        equal: Whether they are the same answer.
        reason: One line that says why not; empty where they are equal.
        max_abs_diff: Largest absolute difference; infinite where values cannot be subtracted (another shape or dtype,
            NaN or infinity on one side only, unequal strings).
        max_rel_diff: Largest difference relative to the expected value, over elements expected to be finite and not
            zero; infinite where max_abs_diff is for want of a comparison at all.
        argmax_agreement: Share of rows with the same largest entry along the last axis, ties within the tolerance
            counted as agreement; None where that has no meaning (rank below 2, last axis below 2, no rows, strings,
            bools, complex numbers).
        different: How many elements differ by more than the tolerance.
        size: How many elements were compared.
        worst: Up to five of those that differ, the worst first.
        tolerance: What was allowed.
    """

    equal: bool
    reason: str
    max_abs_diff: float
    max_rel_diff: float
    argmax_agreement: float | None
    different: int
    size: int
    worst: tuple[Difference, ...]
    tolerance: Tolerance


def compare(
    expected: NDArray[Any],
    actual: NDArray[Any],
    tolerance: Tolerance | None = None,
    ptol: float = 0.0,
    *,
    across_devices: bool = False,
) -> Comparison:
    """Compare two tensors.

    Args:
        expected: What the source model answered.
        actual: What is to be judged; of the same shape and dtype, strings as bytes or str.
        tolerance: What is allowed; None means `tolerance_for` the dtype and the size of `expected`.
        ptol: Share of elements, 0 to 1, that may differ by more.
        across_devices: The two answers come from devices of different classes; see `tolerance_for`.

    Raises:
        InvalidArgument: A dtype has no TensorFlow counterpart, or ptol is no share.
    """
    if not 0 <= ptol <= 1:
        raise InvalidArgument(f"ptol is a share between 0 and 1, got {ptol}")
    expected, actual = np.asarray(expected), np.asarray(actual)
    wanted, got = dtypes.of_numpy(expected.dtype), dtypes.of_numpy(actual.dtype)
    if tolerance is None:
        floating = wanted.numpy_name in _TOLERANCES
        rms = _rms(_real(expected)) if floating else 1.0
        tolerance = tolerance_for(wanted.numpy_name, rms=rms, across_devices=across_devices)
    if expected.shape != actual.shape:
        return _incomparable(f"expected shape {expected.shape}, got {actual.shape}", expected.size, tolerance)
    if wanted is not got:
        names = [dtype.name if dtype.is_string else dtype.numpy_name for dtype in (wanted, got)]
        return _incomparable(f"expected dtype {names[0]}, got {names[1]}", expected.size, tolerance)
    if wanted.is_string:
        return _compare_strings(expected, actual, ptol)
    if wanted.numpy_name not in _TOLERANCES:
        distance, excess = _integer_distance(expected, actual)
        return _judge(expected, actual, distance, excess, tolerance=EXACT, ptol=ptol)
    distance, excess = _float_distance(expected, actual, tolerance)
    return _judge(expected, actual, distance, excess, tolerance=tolerance, ptol=ptol)


def _incomparable(reason: str, size: int, tolerance: Tolerance) -> Comparison:
    return Comparison(
        equal=False,
        reason=reason,
        max_abs_diff=math.inf,
        max_rel_diff=math.inf,
        argmax_agreement=None,
        different=size,
        size=size,
        worst=(),
        tolerance=tolerance,
    )


def _real(array: NDArray[Any]) -> NDArray[np.float64]:
    """See floats as float64, complex numbers as pairs of them along a new last axis."""
    if array.dtype.kind == "c":
        wide = np.ascontiguousarray(array, np.complex128)
        return wide.reshape(-1).view(np.float64).reshape((*array.shape, 2))
    return array.astype(np.float64)


def _rms(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0
    # Scaled by the largest value first, so that squares of large ones do not overflow.
    largest = float(np.abs(finite).max())
    return largest * float(np.sqrt(np.mean(np.square(finite / largest)))) if largest else 0.0


def _float_distance(
    expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the absolute difference of each element, and by how much it is over what is allowed (0 where it is not).

    Both are infinite where one side is NaN or infinite and the other is not the same.
    """
    left, right = _real(expected), _real(actual)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.asarray(np.abs(left - right))
        excess = distance - (tolerance.atol + tolerance.rtol * np.abs(left))
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    comparable = np.isfinite(left) & np.isfinite(right)
    distance[same] = 0.0
    distance[~same & ~comparable] = np.inf
    # An infinite expected value makes an infinite allowance; the distance alone decides there.
    excess = np.where(comparable, np.maximum(excess, 0.0), distance)
    if expected.dtype.kind == "c":
        return np.asarray(distance.max(axis=-1)), np.asarray(excess.max(axis=-1))
    return distance, excess


def _integer_distance(expected: NDArray[Any], actual: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the absolute difference of each element, twice: every difference is over what is allowed."""
    high, low = np.maximum(expected, actual), np.minimum(expected, actual)
    # Two's complement: the difference of the wrapped numbers is right even where int64's own would overflow.
    distance = np.asarray(np.subtract(high.astype(np.uint64), low.astype(np.uint64)), np.float64)
    return distance, distance


def _compare_strings(expected: NDArray[Any], actual: NDArray[Any], ptol: float) -> Comparison:
    left, right = _byte_strings(expected), _byte_strings(actual)
    distance = np.where(np.asarray(left != right, bool), np.inf, 0.0)
    return _judge(left, right, distance, distance, tolerance=EXACT, ptol=ptol)


def _byte_strings(array: NDArray[Any]) -> NDArray[Any]:
    strings = np.empty(array.size, object)
    strings[:] = [
        element.encode("utf-8", "surrogateescape") if isinstance(element, str) else element
        for element in array.ravel().tolist()
    ]
    return strings.reshape(array.shape)


def _judge(
    expected: NDArray[Any],
    actual: NDArray[Any],
    distance: NDArray[np.float64],
    excess: NDArray[np.float64],
    *,
    tolerance: Tolerance,
    ptol: float,
) -> Comparison:
    outside = excess > 0
    different = int(np.count_nonzero(outside))
    equal = different <= ptol * expected.size
    worst = _worst(expected, actual, excess, different)
    reason = ""
    if not equal:
        allowed = "" if tolerance == EXACT else f" by more than {tolerance}"
        reason = f"{different} of {expected.size} values differ{allowed}; {worst[0]}"
    return Comparison(
        equal=equal,
        reason=reason,
        max_abs_diff=float(np.max(distance, initial=0.0)),
        max_rel_diff=_max_relative(expected, distance),
        argmax_agreement=_argmax_agreement(expected, actual, tolerance),
        different=different,
        size=expected.size,
        worst=worst,
        tolerance=tolerance,
    )


def _worst(
    expected: NDArray[Any], actual: NDArray[Any], excess: NDArray[np.float64], different: int
) -> tuple[Difference, ...]:
    count = min(different, WORST)
    if count == 0:
        return ()
    flat = excess.ravel()
    candidates = np.argpartition(flat, -count)[-count:]
    # Stable and from the front, so that equally bad elements are shown in their order.
    candidates = np.sort(candidates)
    ordered = candidates[np.argsort(-flat[candidates], kind="stable")]
    return tuple(
        Difference(
            tuple(int(part) for part in np.unravel_index(place, expected.shape)),
            _scalar(expected.ravel()[place]),
            _scalar(actual.ravel()[place]),
        )
        for place in ordered
    )


def _scalar(value: Any) -> Any:
    """Turn a numpy scalar into Python's; bfloat16 has no Python counterpart but float."""
    if not isinstance(value, np.generic):
        return value
    return float(value) if value.dtype.name == "bfloat16" else value.item()


def _max_relative(expected: NDArray[Any], distance: NDArray[np.float64]) -> float:
    if expected.dtype.kind == "O":
        return float(np.max(distance, initial=0.0))
    # Widened first: the smallest int8 has no absolute value of its own dtype.
    size = np.abs(expected if expected.dtype.kind == "c" else expected.astype(np.float64)).astype(np.float64)
    usable = np.isfinite(size) & (size > 0)
    return float(np.max(distance[usable] / size[usable], initial=0.0))


def _argmax_agreement(expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance) -> float | None:
    if expected.ndim < 2 or expected.shape[-1] < 2 or expected.size == 0 or expected.dtype.kind in "Obc":
        return None
    width = expected.shape[-1]
    left = expected.reshape(-1, width).astype(np.float64)
    right = actual.reshape(-1, width).astype(np.float64)
    rows = np.arange(left.shape[0])
    wanted, got = left.argmax(axis=1), right.argmax(axis=1)
    top, chosen = left[rows, wanted], left[rows, got]
    with np.errstate(invalid="ignore"):
        # Each of the two entries may be off by its own tolerance, and so may swap places.
        slack = 2 * tolerance.atol + tolerance.rtol * (np.abs(top) + np.abs(chosen))
        agree = (wanted == got) | (top - chosen <= slack)
    return float(np.mean(agree))

"""When two tensors are the same answer."""

from __future__ import annotations

import math
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tfbundle_serving.apis.comparison import Tolerance, compare, tolerance_for
from tfbundle_serving.apis.errors import InvalidArgument

NAN, INF = math.nan, math.inf


def floats(*values: float) -> Any:
    """Make a float32 vector."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"),
    [
        ("float64", 1e-9, 1e-12),
        ("float32", 1e-5, 1e-6),
        ("float16", 1e-3, 1e-3),
        ("bfloat16", 1.6e-2, 1e-2),
        ("complex64", 1e-5, 1e-6),
        ("int32", 0.0, 0.0),
        ("bool", 0.0, 0.0),
        ("object", 0.0, 0.0),
    ],
)
def test_tolerance_of_each_dtype(dtype: str, rtol: float, atol: float) -> None:
    """Each dtype has its tolerance; what is no float is exact."""
    assert tolerance_for(dtype) == Tolerance(rtol=rtol, atol=atol)


def test_tolerance_grows_with_the_output() -> None:
    """Atol grows with outputs above unit size and does not shrink below."""
    assert tolerance_for(np.float32, rms=100.0).atol == pytest.approx(1e-4)
    assert tolerance_for(np.float32, rms=0.01).atol == 1e-6
    assert tolerance_for(np.float32, across_devices=True) == Tolerance(rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bad", [-1.0, NAN, INF])
def test_no_tolerance(bad: float) -> None:
    """A negative or endless distance is refused."""
    with pytest.raises(InvalidArgument, match="rtol"):
        Tolerance(rtol=bad)
    with pytest.raises(InvalidArgument, match="ptol"):
        compare(floats(1), floats(1), ptol=bad)


EQUAL = {
    "the same": (floats(1, 2), floats(1, 2)),
    "within tolerance": (floats(1, 2), floats(1.000005, 2)),
    "nan at the same place": (floats(NAN, 1), floats(NAN, 1)),
    "infinities": (floats(INF, -INF), floats(INF, -INF)),
    "zeros of either sign": (floats(0.0), floats(-0.0)),
    "empty": (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)),
    "scalars": (np.float32(1), np.float32(1)),
    "beside a large neighbour": (floats(0.0, 3000.0), floats(1e-4, 3000.0)),
    "half": (np.array([1.0], np.float16), np.array([1.001], np.float16)),
    "bfloat16": (np.array([1.0], ml_dtypes.bfloat16), np.array([1.0078125], ml_dtypes.bfloat16)),
    "complex": (np.array([1 + 1j], np.complex64), np.array([1 + 1.000001j], np.complex64)),
    "bytes and str": (np.array([b"a", b"b"], object), np.array(["a", "b"])),
    "large integers": (np.array([2**63 - 1]), np.array([2**63 - 1])),
}
DIFFERENT = {
    "beyond tolerance": (floats(1, 2), floats(1.0001, 2), 1),
    "nan elsewhere": (floats(NAN, 1), floats(1, NAN), 2),
    "nan for a number": (floats(1), floats(NAN), 1),
    "infinity of the other sign": (floats(INF, 1), floats(-INF, 1), 1),
    "infinity for a number": (floats(1), floats(INF), 1),
    "a number for infinity": (floats(INF), floats(3e38), 1),
    "integers": (np.array([1, 2]), np.array([1, 3]), 1),
    "integers that float64 cannot tell apart": (np.array([2**62]), np.array([2**62 + 1]), 1),
    "bools": (np.array([True, False]), np.array([True, True]), 1),
    "strings": (np.array([b"a\0"], object), np.array([b"a"], object), 1),
    "imaginary parts": (np.array([1 + 1j], np.complex64), np.array([1 + 2j], np.complex64), 1),
}


@pytest.mark.parametrize("case", EQUAL)
def test_equal(case: str) -> None:
    """These are the same answer."""
    comparison = compare(*EQUAL[case])
    assert comparison.equal
    assert comparison.reason == ""
    assert comparison.worst == ()
    assert math.isfinite(comparison.max_abs_diff)


@pytest.mark.parametrize("case", DIFFERENT)
def test_different(case: str) -> None:
    """These are not, and it is said how many elements differ and where."""
    expected, actual, count = DIFFERENT[case]
    comparison = compare(expected, actual)
    assert not comparison.equal
    assert comparison.different == count
    assert len(comparison.worst) == count
    assert f"{count} of {expected.size} values differ" in comparison.reason


def test_shapes_and_dtypes_are_exact() -> None:
    """What would broadcast or cast is not the same answer."""
    assert compare(np.ones((2, 1)), np.ones(2)).reason == "expected shape (2, 1), got (2,)"
    assert compare(floats(1), np.ones(1)).reason == "expected dtype float32, got float64"
    assert compare(np.array([b"1"]), np.array([1])).reason == "expected dtype string, got int64"
    assert compare(floats(1), np.ones(1)).max_abs_diff == INF


def test_figures() -> None:
    """Absolute and relative differences are the largest of each; values expected to be zero have no relative one."""
    comparison = compare(floats(0, 10, 100), floats(0.5, 11, 102))
    assert comparison.max_abs_diff == 2
    assert comparison.max_rel_diff == pytest.approx(0.1)


def test_integer_distances_do_not_overflow() -> None:
    """The distance between the ends of int64 is what it is."""
    ends = np.iinfo(np.int64)
    assert compare(np.array([ends.min]), np.array([ends.max])).max_abs_diff == pytest.approx(2.0**64)
    assert compare(np.array([-128], np.int8), np.array([127], np.int8)).max_rel_diff == pytest.approx(255 / 128)
    assert compare(np.array([0], np.uint64), np.array([2**64 - 1], np.uint64)).max_abs_diff == pytest.approx(2.0**64)


def test_the_worst_five_come_first() -> None:
    """The elements furthest beyond the tolerance are shown with place and both values, in Python's own types."""
    expected = np.zeros((4, 5), np.float32)
    actual = np.arange(20, dtype=np.float32).reshape(4, 5)
    worst = compare(expected, actual).worst
    assert [each.index for each in worst] == [(3, 4), (3, 3), (3, 2), (3, 1), (3, 0)]
    assert worst[0].actual == 19.0
    assert isinstance(worst[0].actual, float)
    assert str(worst[0]) == "at [3, 4] expected 0, got 19"


def test_a_share_may_differ() -> None:
    """Ptol lets that share of elements be off, and no more."""
    expected = np.zeros(100, np.float32)
    actual = np.where(np.arange(100) < 2, 1, 0).astype(np.float32)
    assert compare(expected, actual, ptol=0.02).equal
    assert not compare(expected, actual, ptol=0.019).equal


def test_a_given_tolerance_counts() -> None:
    """What the caller allows is used as it is."""
    assert compare(floats(1), floats(1.4), Tolerance(atol=0.5)).equal
    assert not compare(floats(1), floats(1.000001), Tolerance()).equal
    assert compare(np.array([5]), np.array([6]), Tolerance(atol=3)).tolerance == Tolerance()


class TestArgmax:
    def test_agreement(self) -> None:
        """The share of rows whose largest entry is the same."""
        expected = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32)
        actual = expected.copy()
        actual[0] = [0.1, 0.9]
        assert compare(expected, actual).argmax_agreement == 0.75

    def test_ties_within_the_tolerance_agree(self) -> None:
        """Where two entries are nearer to each other than may be told apart, either may be the largest."""
        expected = np.array([[0.5, 0.5000001]], np.float32)
        actual = np.array([[0.5000001, 0.5]], np.float32)
        comparison = compare(expected, actual)
        assert comparison.equal
        assert comparison.argmax_agreement == 1.0

    def test_equal_tensors_never_disagree(self) -> None:
        """Whatever passes element by element cannot be called a disagreement: property over random near-ties."""
        random = np.random.default_rng(0)
        expected = random.normal(size=(2000, 3)).round(5).astype(np.float32)
        expected[:, 1] = expected[:, 0] + random.normal(scale=2e-6, size=2000).astype(np.float32)
        actual = expected + random.uniform(-1e-6, 1e-6, expected.shape).astype(np.float32)
        comparison = compare(expected, actual)
        assert (expected.argmax(1) != actual.argmax(1)).any()
        assert comparison.equal
        assert comparison.argmax_agreement == 1.0

    @pytest.mark.parametrize(
        "array",
        [
            np.ones(3, np.float32),
            np.ones((3, 1), np.float32),
            np.ones((0, 3), np.float32),
            np.ones((2, 2), np.complex64),
            np.array([[b"a", b"b"]], object),
            np.ones((2, 2), bool),
        ],
        ids=["vector", "one column", "no rows", "complex", "strings", "bools"],
    )
    def test_no_meaning(self, array: Any) -> None:
        """Where there is nothing to choose from there is no agreement."""
        assert compare(array, array).argmax_agreement is None

    def test_nan_rows(self) -> None:
        """NaN at the same place is the same choice."""
        rows = np.array([[NAN, 1.0], [0.0, 1.0]], np.float32)
        assert compare(rows, rows).argmax_agreement == 1.0


def test_it_is_fast() -> None:
    """A million values take no Python loop: well under a second."""
    values = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    begin = time.process_time()
    assert compare(values, values + np.float32(1e-3)).different > 900_000
    assert time.process_time() - begin < 1.0

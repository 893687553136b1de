"""How often which latency was seen, to a thousandth of its value, in memory that does not grow with the run.

The buckets are those of HdrHistogram: each power of two is cut into 1024 equal parts, so that microseconds and minutes
are told apart equally well, and a percentile is a count along the buckets instead of a sort of every sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

#: Parts of a power of two; 10 bits keep three significant digits.
_BITS = 10
_NANOSECONDS = 1e9


class Histogram:
    """Counts of seconds."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total_s = 0.0
        self.min_s = 0.0
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one value; a negative one is none that a clock could give, and counts as 0."""
        seconds = max(seconds, 0.0)
        bucket = _bucket(math.ceil(seconds * _NANOSECONDS))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.min_s = min(self.min_s, seconds) if self.count else seconds
        self.max_s = max(self.max_s, seconds)
        self.count += 1
        self.total_s += seconds

    @property
    def mean_s(self) -> float:
        """The mean in seconds; 0 where nothing was counted."""
        return self.total_s / self.count if self.count else 0.0

    def at_rank(self, rank: int) -> float:
        """Give the value, in seconds, that `rank` of the values do not exceed.

        It is the upper end of its bucket, so that a percentile is never flattered, but at most the largest value.

        Raises:
            ValueError: The rank is not from 1 to `count`.
        """
        if not 1 <= rank <= self.count:
            raise ValueError(f"rank {rank} of {self.count} values")
        seen = 0
        for bucket, count in sorted(self._counts.items()):
            seen += count
            if seen >= rank:
                return min(_upper_end(bucket) / _NANOSECONDS, self.max_s)
        raise AssertionError("the counts add up")

    def buckets(self) -> Iterator[tuple[float, int]]:
        """Yield the upper end of each bucket that is not empty, in seconds, and its count, in rising order."""
        for bucket, count in sorted(self._counts.items()):
            yield min(_upper_end(bucket) / _NANOSECONDS, self.max_s), count


def _bucket(value: int) -> int:
    """Number the bucket of a whole value, not below 0; numbers rise with values."""
    shift = max(value.bit_length() - _BITS - 1, 0)
    return (shift << _BITS) + (value >> shift)


def _upper_end(bucket: int) -> int:
    """Give the largest value of a bucket."""
    shift = max((bucket >> _BITS) - 1, 0)
    return ((bucket - (shift << _BITS) + 1) << shift) - 1

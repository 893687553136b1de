"""Which of several servers a request goes to: each in turn, and not to those that were not there a moment ago.

gRPC could balance by itself, but only between the addresses of one name. The rotation here is the same for both
protocols, and knows nothing of either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Generic, TypeVar

Member = TypeVar("Member")

#: How long a server is left alone after a failure, in seconds; twice as long after each further one.
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 16.0


class Replicas(Generic[Member]):
    """Gives the order in which servers are tried. There is no lock (see `PerProcess`): a race costs a turn at most."""

    def __init__(self, members: Sequence[Member], clock: Callable[[], float] = time.monotonic) -> None:
        self.members = tuple(members)
        self._clock = clock
        self._turn = count()
        self._rest_s = [0.0] * len(self.members)
        self._back_at_s = [0.0] * len(self.members)

    def order(self) -> Sequence[tuple[int, Member]]:
        """Give all servers, with their numbers: the one whose turn it is, then the others that are well.

        Those that are left alone come last, the one that is back first before the others: with nobody well, they are
        better than nothing.
        """
        size = len(self.members)
        if size == 1:
            return ((0, self.members[0]),)
        now_s = self._clock()
        start = next(self._turn)
        turns = [(start + step) % size for step in range(size)]
        well = [number for number in turns if self._back_at_s[number] <= now_s]
        unwell = sorted(
            (number for number in turns if self._back_at_s[number] > now_s), key=self._back_at_s.__getitem__
        )
        return [(number, self.members[number]) for number in well + unwell]

    def worked(self, number: int) -> None:
        """Note that a server answered, be it with a refusal."""
        if self._rest_s[number]:
            self._rest_s[number] = self._back_at_s[number] = 0.0

    def failed(self, number: int) -> None:
        """Note that a server could not be reached, or let a deadline pass."""
        now_s = self._clock()
        if self._back_at_s[number] <= now_s:  # of many requests that fail together, one counts
            rest_s = self._rest_s[number] * 2 or _FIRST_REST_S
            self._rest_s[number] = min(rest_s, _LONGEST_REST_S)
            self._back_at_s[number] = now_s + self._rest_s[number]

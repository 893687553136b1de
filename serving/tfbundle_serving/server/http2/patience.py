"""How much of what costs a client nothing and the server something is put up with."""

from __future__ import annotations

import time

#: Such frames that may come at once, and how many a second beyond. No client that means well comes near: most are
#: cancelled calls, of which a client with a deadline of a millisecond sends one a request.
_MOST_AT_ONCE = 10_000
_MOST_A_SECOND = 5_000


class Patience:
    """Counts one connection's frames of that sort: pings, settings, resets, empty data, windows opened by bytes.

    The clock is looked at when it has run out only.
    """

    __slots__ = ("_left", "_since")

    def __init__(self) -> None:
        self._left = _MOST_AT_ONCE
        self._since = time.monotonic()

    def has_ended(self, cost: int = 1) -> bool:
        """Count a frame, and tell whether that was one too many."""
        self._left -= cost
        if self._left >= 0:
            return False
        now = time.monotonic()
        self._left = min(_MOST_AT_ONCE, self._left + int((now - self._since) * _MOST_A_SECOND))
        self._since = now
        return self._left < 0

"""One moment by which a whole call must be over, however many messages it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tfbundle_serving.apis.errors import InvalidArgument

#: Above this (30 years, or infinity) a timeout is none; sockets and gRPC cannot count to all that a float can say.
_LONGEST_S = 1e9


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the time of a call is up.

    Attributes:
        timeout_s: What the caller allowed, in seconds; None means that there is no limit.
        expires_at_s: The end on the clock of `time.monotonic`; None where there is none.
    """

    timeout_s: float | None
    expires_at_s: float | None

    @classmethod
    def after(cls, timeout_s: float | None) -> Deadline:
        """Start the clock.

        Raises:
            InvalidArgument: The timeout is not a positive number of seconds.
        """
        if timeout_s is None or timeout_s > _LONGEST_S:
            return cls(None, None)
        if not timeout_s > 0:
            raise InvalidArgument(f"a timeout is a positive number of seconds or None, got {timeout_s}", attempts=0)
        return cls(timeout_s, time.monotonic() + timeout_s)

    def remaining_s(self) -> float | None:
        """Count the seconds that are left, not below 0; None where there is no limit."""
        return None if self.expires_at_s is None else max(0.0, self.expires_at_s - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether the time is up."""
        return self.remaining_s() == 0.0

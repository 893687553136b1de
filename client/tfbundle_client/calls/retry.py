"""When a message that failed is sent again, and when not.

Every call of this client may run twice without harm: models only answer, and a reload or a question asks for a state.
So what decides is whether a second try can help: a server that is not there, restarts or is overloaded, yes; a wrong
input, an unknown model, a missing right or a deadline that is over, never. Retries by gRPC itself are switched off:
they end without a word at 256 KiB of request.

Delays grow by two and are drawn from nothing to the whole ("full jitter"), so that clients that failed together do not
come back together. A budget that all calls of a client share keeps retries a small part of the load: a server that is
down for all is not asked three times as often.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tfbundle_serving.apis.errors import (
    BundleError,
    ConnectionFailed,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)

#: The most retries that a client may save up.
_FULLEST = 100.0
#: The retries that a new client has, so that its first failure can be met.
_START = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How failed messages are sent again.

    Attributes:
        attempts: The most times that a message is sent, the first included.
        first_delay_s: Longest wait before the second attempt; it doubles with each one.
        longest_delay_s: Where the doubling ends.
        longest_retry_after_s: The longest wait that a server may ask for; asked for more, the call fails at once.
        budget_ratio: Retries that each call adds to the client's budget.
        budget_per_s: Retries that each second adds to it, so that clients with few calls have some.
        resource_exhausted: Also retry ResourceExhausted. A 429 of a server that says when to come back always is;
            a message that is too large never.

    Raises:
        InvalidArgument: A number is out of range.
    """

    attempts: int = 3
    first_delay_s: float = 0.05
    longest_delay_s: float = 1.0
    longest_retry_after_s: float = 60.0
    budget_ratio: float = 0.1
    budget_per_s: float = 1.0
    resource_exhausted: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.attempts < 1:
            raise InvalidArgument(f"attempts counts the first one too, so it is at least 1, got {self.attempts}")
        for name in ("first_delay_s", "longest_delay_s", "longest_retry_after_s", "budget_ratio", "budget_per_s"):
            if not getattr(self, name) >= 0:
                raise InvalidArgument(f"{name} is a number of at least 0, got {getattr(self, name)}")

    def may_help(self, error: BundleError) -> bool:
        """Whether a message that failed so may succeed later."""
        told = getattr(error, "may_succeed_later", None)
        if told is not None:
            return bool(told)
        if isinstance(error, ResourceExhausted):
            return self.resource_exhausted or error.retry_after_s is not None
        return isinstance(error, Unavailable)


class RetryBudget:
    """How many retries a client may still make.

    Threads share it without a lock: a deposit that is lost in a race does not matter, and a lock that another thread
    holds during a fork would never open in the child.
    """

    __slots__ = ("_clock", "_filled_at_s", "_left", "_retry")

    def __init__(self, retry: Retry, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._clock = clock
        self._left = _START
        self._filled_at_s = clock()

    def deposit(self) -> None:
        """Count a call."""
        left = self._left + self._retry.budget_ratio
        self._left = left if left < _FULLEST else _FULLEST

    def withdraw(self) -> bool:
        """Take one retry, if there is one."""
        now_s = self._clock()
        left = min(_FULLEST, self._left + (now_s - self._filled_at_s) * self._retry.budget_per_s)
        self._filled_at_s = now_s
        may = left >= 1.0
        self._left = left - 1.0 if may else left
        return may


class Retrying:
    """A client's policy with its budget: says after each failure how long to wait, or that it stands.

    Args:
        retry: The policy; None never sends again.
        reconnect_s: How long the transport makes no new connection after one that failed; twice as long each time.
        draw: Gives a random number from 0 up to 1.
        clock: Gives seconds, as `time.monotonic` does.
    """

    __slots__ = ("_budget", "_draw", "_reconnect_s", "retry")

    def __init__(
        self,
        retry: Retry | None,
        *,
        reconnect_s: float = 0.0,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.retry = retry
        self._reconnect_s = reconnect_s
        self._draw = draw
        self._budget = None if retry is None else RetryBudget(retry, clock)

    def count_call(self) -> None:
        """Note that a call begins."""
        if self._budget is not None:
            self._budget.deposit()

    def delay_s(self, error: BundleError, attempt: int, remaining_s: float | None) -> float | None:
        """Decide about one failure.

        Args:
            error: What went wrong.
            attempt: Which attempt that was, from 1.
            remaining_s: Seconds that the call may still take; None where there is no limit.

        Returns:
            Seconds to wait before the message is sent again; None where the failure stands.
        """
        retry, budget = self.retry, self._budget
        if retry is None or budget is None or attempt >= retry.attempts or not retry.may_help(error):
            return None
        delay_s = self._draw() * min(retry.longest_delay_s, retry.first_delay_s * 2.0 ** (attempt - 1))
        if isinstance(error, ConnectionFailed):
            delay_s += self._reconnect_s * 2.0 ** (attempt - 1)
        asked_s: float | None = getattr(error, "retry_after_s", None)
        if asked_s is not None:
            if asked_s > retry.longest_retry_after_s:
                return None
            delay_s += asked_s
        if remaining_s is not None and delay_s >= remaining_s:
            return None
        return delay_s if budget.withdraw() else None

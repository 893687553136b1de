"""What is sent when: the settings of a load, and the moments at which an open loop sends.

An open loop sends at moments that are fixed beforehand, as the users of a service do, who do not wait for each other.
A closed loop sends the next request when the last one is answered: when the server stalls, so does the load, and the
requests that would have met the stall are never measured ("coordinated omission"; Gil Tene).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tfbundle_serving.apis.errors import InvalidArgument

Arrivals = Literal["constant", "poisson"]

DEFAULT_RATE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run.

    Attributes:
        rate: Requests a second of an open loop; not used where `concurrency` is given.
        arrivals: Whether an open loop sends evenly, or as independent users do (exponential gaps).
        concurrency: How many requests a closed loop keeps in flight; None means an open loop.
        duration_s: Seconds that are measured.
        warm_up_s: Seconds before those, in which the same is sent and nothing measured.
        timeout_s: Seconds that a request may take, from the moment it is sent.
        seed: For the moments of Poisson arrivals.
    """

    rate: float = DEFAULT_RATE
    arrivals: Arrivals = "constant"
    concurrency: int | None = None
    duration_s: float = 10.0
    warm_up_s: float = 2.0
    timeout_s: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("rate", "duration_s", "timeout_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidArgument(f"{name} is a positive number, got {getattr(self, name)}", attempts=0)
        if not 0 <= self.warm_up_s < float("inf"):
            raise InvalidArgument(f"warm_up_s is a number of seconds, got {self.warm_up_s}", attempts=0)
        if self.concurrency is not None and self.concurrency < 1:
            raise InvalidArgument(f"concurrency is at least 1, got {self.concurrency}", attempts=0)

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at fixed moments."""
        return self.concurrency is None

    @property
    def total_s(self) -> float:
        """Seconds in which requests are sent, the warm-up included."""
        return self.warm_up_s + self.duration_s

    def __str__(self) -> str:
        """Name the load for a person."""
        if self.is_open:
            return f"open loop, {self.rate:g} requests/s, {self.arrivals} arrivals"
        return f"closed loop, {self.concurrency} in flight"


def send_times(load: Load) -> Iterator[float]:
    """Yield the moments at which an open loop sends, in seconds after the start of the warm-up."""
    if load.arrivals == "constant":
        # Multiplied, not added up: a million steps would add up a million roundings.
        number = 0
        while (moment := number / load.rate) < load.total_s:
            yield moment
            number += 1
        return
    draw = random.Random(load.seed)
    moment = draw.expovariate(load.rate)
    while moment < load.total_s:
        yield moment
        moment += draw.expovariate(load.rate)

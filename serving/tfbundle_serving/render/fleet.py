"""How many Pods a rate needs."""

from __future__ import annotations

import math

from tfbundle_serving.apis.errors import InvalidArgument

#: Share of what a Pod can carry that it is given, which is what the HorizontalPodAutoscaler aims at.
UTILISATION = 0.6


def replicas_for(rate: float, per_replica: float) -> int:
    """Reckon the Pods for a rate, so that one may be lost.

    Args:
        rate: Requests a second, at the busiest time.
        per_replica: Requests a second that one Pod answers within the bound on p99, as `tfbundle bench --sweep` finds.

    Raises:
        InvalidArgument: One of them is not above 0.
    """
    if not (rate > 0 and per_replica > 0 and math.isfinite(rate / per_replica)):
        raise InvalidArgument(f"--rate and --per-replica must be above 0, got {rate:g} and {per_replica:g}")
    at_ease = math.ceil(rate / (UTILISATION * per_replica))
    with_one_lost = math.ceil(rate / per_replica) + 1
    return max(at_ease, with_one_lost, 2)

"""Whether a metric got better, and which way better is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from tfbundle_serving.apis.errors import ExportError

from ..sources.checkpoint_names import direction_of

Mode = Literal["auto", "min", "max"]


class Improvement:
    """Remembers the best value of a metric.

    Args:
        monitor: Name of the metric in the logs, as "val_loss".
        mode: Which way is better; "auto" goes by the name.
        initial: The value to beat; None takes whatever comes first.

    Attributes:
        monitor: The metric.
        best: The best value so far.

    Raises:
        ExportError: The mode is none, or does not follow from the name.
    """

    def __init__(self, monitor: str, mode: Mode = "auto", initial: float | None = None) -> None:
        if mode not in get_args(Mode):
            raise ExportError(f'mode must be "auto", "min" or "max", got {mode!r}')
        self.monitor = monitor
        self.best = initial
        self._larger = (mode == "max") if mode != "auto" else _larger_is_better(monitor)

    def found_in(self, logs: Mapping[str, Any]) -> float | None:
        """Read the metric from an epoch's logs.

        Returns:
            Its value; None where the logs lack it or hold no single number.
        """
        value = logs.get(self.monitor)
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            return None

    def is_better(self, value: float) -> bool:
        """Tell whether a value beats the best one; NaN beats nothing."""
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value > self.best if self._larger else value < self.best


def _larger_is_better(metric: str) -> bool:
    direction = direction_of(metric)
    if direction is None:
        raise ExportError(
            f'cannot tell whether a larger or a smaller {metric!r} is better; give mode="max" or mode="min"'
        )
    return direction == "max"

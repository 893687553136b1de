"""Comparing what a weights file holds with what an architecture has room for, and saying what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError

#: So many names are listed before it says "and N more".
_LISTED = 5

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """What does not fit together.

    Attributes:
        missing: What the architecture has and the file does not.
        left_over: What the file has and the architecture does not.
        shapes: (what, shape in the file, shape in the architecture).
    """

    missing: Sequence[str] = ()
    left_over: Sequence[str] = ()
    shapes: Sequence[tuple[str, Shape, Shape]] = ()

    def refuse(self, source: object, origin: str) -> None:
        """Stop if there is anything.

        Args:
            source: The weights file, in messages.
            origin: The architecture, in messages.

        Raises:
            ExportError: There is; the message lists it.
        """
        parts = []
        if self.shapes:
            told = [
                f"{what}: {in_file} in the file, {wanted} in the architecture" for what, in_file, wanted in self.shapes
            ]
            parts.append("these have other shapes: " + listed(told, "; "))
        if self.missing:
            parts.append("the file lacks " + listed(self.missing))
        if self.left_over:
            parts.append("the architecture has no place for " + listed(self.left_over))
        if parts:
            raise ExportError(f"{source} does not fit {origin}: {'; '.join(parts)}. Nothing is restored in part")


def listed(items: Iterable[str], separator: str = ", ") -> str:
    """Join the first few items and count the others."""
    items = list(items)
    more = f"{separator}and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return separator.join(items[:_LISTED]) + more


def weights_of(model: Any) -> list[Any]:
    """Give the weights that a model of either Keras answers with; tf_keras counts metrics and vocabularies, too."""
    parts = [model, *model._flatten_layers()]
    metrics = [value for part in parts for value in vars(part).values() if _is_metric(value)]
    beside = {id(variable) for metric in metrics for variable in metric.variables}
    return [weight for weight in variables_of(model.weights) if id(weight) not in beside]


def variables_of(weights: Iterable[Any]) -> list[Any]:
    """Leave out what is a weight by name only: the vocabulary of a look-up layer in tf_keras."""
    return [weight for weight in weights if hasattr(weight, "numpy")]


def _is_metric(value: object) -> bool:
    return any(base.__name__ == "Metric" for base in type(value).__mro__)


def shape_of(variable: Any) -> Shape:
    """Give the shape of a variable of either Keras."""
    return tuple(int(size) for size in variable.shape)


def values_of(variable: Any) -> NDArray[Any]:
    """Give the values of a variable of either Keras."""
    return np.asarray(variable.numpy())


def check_restored(name: str, variable: Any, stored: NDArray[Any]) -> None:
    """Hold a variable against what the file says, bit by bit.

    Raises:
        ExportError: They differ.
    """
    values = values_of(variable)
    if values.shape != stored.shape or values.tobytes() != stored.astype(values.dtype).tobytes():
        raise ExportError(f"{name} does not hold what the file says after loading; this should not happen")

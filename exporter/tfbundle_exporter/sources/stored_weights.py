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

"""What classify and regress give back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis import classification


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifications(Sequence[list[tuple[str, float]]]):
    """A model's classes for each example: `r[0]` is [(label, score), ...] of the first one.

    Attributes:
        model: The model that was asked.
        version: The version that answered.
        signature: The signature that was called.
        labels: Object array (examples, classes) of str; "" where the model gives none.
        scores: float32 (examples, classes); 0 where the model gives none.
        latency_s: Seconds from the call to the answer.
        attempts: How often the request was sent until it was answered.
    """

    model: str
    version: int
    signature: str
    labels: NDArray[np.object_]
    scores: NDArray[np.float32]
    latency_s: float
    attempts: int = 1

    @overload
    def __getitem__(self, place: int) -> list[tuple[str, float]]: ...

    @overload
    def __getitem__(self, place: slice) -> list[list[tuple[str, float]]]: ...

    def __getitem__(self, place: int | slice) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """Take the classes of an example, or of several."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        return list(zip(self.labels[place].tolist(), self.scores[place].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regressions:
    """A model's numbers, one for each example.

    Attributes:
        model: The model that was asked.
        version: The version that answered.
        signature: The signature that was called.
        values: float32 (examples,).
        latency_s: Seconds from the call to the answer.
        attempts: How often the request was sent until it was answered.
    """

    model: str
    version: int
    signature: str
    values: NDArray[np.float32]
    latency_s: float
    attempts: int = 1

    def __getitem__(self, place: int) -> float:
        """Take the number of an example."""
        return float(self.values[place])

    def __iter__(self) -> Iterator[float]:
        return iter(self.values.tolist())

    def __len__(self) -> int:
        return len(self.values)


def as_text_and_scores(found: classification.Classifications) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
    """Give labels as str and scores, "" and 0 where the model gives none."""
    scores = np.zeros(found.shape, np.float32) if found.scores is None else found.scores
    labels = np.empty(found.shape, object)
    labels[...] = ""
    if found.labels is not None:
        flat = [label.decode("utf-8", "surrogateescape") for label in found.labels.ravel().tolist()]
        labels.ravel()[:] = flat
    return labels, scores

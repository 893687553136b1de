"""What the source model answers, batch by batch: the truth that the gate and golden.npz hold a version against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import compare
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import Golden

from .example_inputs import MAX_BYTES

Arrays = Mapping[str, NDArray[Any]]
#: Takes and gives name to array.
Predict = Callable[[Arrays], dict[str, NDArray[Any]]]

#: More rows than the widest vector registers hold and than most batching configurations gather.
_LARGE_BATCH = 33


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the reference inputs and what the source model answers to them alone.

    Attributes:
        places: Which rows, a row as often as it is named; None means the inputs as they are.
        outputs: Output name to array.
    """

    places: tuple[int, ...] | None
    outputs: Arrays

    @property
    def size(self) -> int | None:
        """How many rows; None where that is not for a caller to choose."""
        return None if self.places is None else len(self.places)

    def take(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Give this batch's rows of some arrays."""
        if self.places is None:
            return dict(arrays)
        return {name: array[list(self.places)] for name, array in arrays.items()}

    def __str__(self) -> str:
        """Say which batch this is, in an error."""
        return "the inputs as they are" if self.places is None else f"batch of {len(self.places)}"


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference inputs of one signature and the source model's answers.

    Attributes:
        inputs: Input name to array, all rows.
        batches: The answers; the last is the one to all rows.
        stateful: Names of layers that keep state from one call to the next. Each answer is the first one after the
            state was reset.
        unsteady: Outputs that differed when the source model was asked the same twice: something random is at work.
    """

    inputs: Arrays
    batches: tuple[Batch, ...]
    stateful: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many reference rows there are; 1 where the inputs have no rows."""
        return next((array.shape[0] for array in self.inputs.values() if array.ndim), 1)

    @property
    def is_batched(self) -> bool:
        """Whether the signature takes any number of rows; if not, its inputs must be sent as they are."""
        return self.batches[-1].places is not None

    def with_unsteady(self, outputs: tuple[str, ...]) -> Reference:
        """Give the same reference, with outputs whose values prove nothing where it is about to be used."""
        return replace(self, unsteady=outputs)

    @property
    def golden(self) -> Golden:
        """All inputs and answers, as golden.npz keeps them."""
        return Golden(self.inputs, self.batches[-1].outputs)

    @property
    def noise_floor(self) -> float:
        """Largest absolute difference of the source model from itself when the same rows come in another batch.

        No serving can be expected to be nearer. Outputs without a row for each input row are left out, and those that
        differ for another reason.
        """
        whole = self.batches[-1].outputs
        return max(
            (
                compare(whole[name][list(batch.places)], output).max_abs_diff
                for batch in self.batches
                if batch.places is not None
                for name, output in batch.outputs.items()
                if name not in self.unsteady
                and has_rows(whole[name], self.rows)
                and has_rows(output, len(batch.places))
            ),
            default=0.0,
        )


def has_rows(output: NDArray[Any], rows: int) -> bool:
    """Tell whether an output has one entry for each input row."""
    return output.ndim > 0 and output.shape[0] == rows


def ask(
    predict: Predict,
    inputs: Arrays,
    *,
    batched: bool = True,
    stateful: tuple[str, ...] = (),
    reset: Callable[[], None] | None = None,
) -> Reference:
    """Ask the source model for the first row, the last one, two, three (an odd number), a large batch, and all rows.

    Args:
        predict: The source model.
        inputs: Input name to array of at least three rows.
        batched: Whether it takes any number of rows (`example_inputs.is_batched`); if not, it is asked for the inputs
            as they are and nothing else.
        stateful: Names of layers that keep state from one call to the next.
        reset: Brings that state back to where it was at first; called before each question.

    Raises:
        ExportError: The model fails on an input.
    """

    def answer(places: tuple[int, ...] | None) -> Batch:
        if reset is not None:
            reset()
        batch = Batch(places, {})
        outputs = predict(batch.take(inputs))
        return Batch(places, {name: np.array(output) for name, output in outputs.items()})

    batches = tuple(answer(places) for places in _batches(inputs, batched=batched))
    whole = batches[-1]
    empty = [name for name, output in whole.outputs.items() if output.size == 0]
    if empty:
        raise ExportError(f"the model's output {empty[0]!r} is empty for the example inputs, which proves nothing")
    again = answer(whole.places).outputs
    unsteady = tuple(name for name, output in whole.outputs.items() if not compare(output, again[name]).equal)
    return Reference(inputs, batches, stateful, unsteady)


def _batches(inputs: Arrays, *, batched: bool) -> list[tuple[int, ...] | None]:
    if not batched:
        return [None]
    rows = next(iter(inputs.values())).shape[0]
    everything = tuple(range(rows))
    batches: list[tuple[int, ...] | None] = [(0,), (rows - 1,), (0, 1 % rows), (0, 1 % rows, 2 % rows)]
    row_bytes = sum(array.nbytes for array in inputs.values()) // rows
    large = min(_LARGE_BATCH, MAX_BYTES // max(1, row_bytes))
    if large > rows:
        # Too few rows were given for a large batch: they come again in it, and need not be kept more than once.
        batches.append(tuple(place % rows for place in range(large)))
    return [*batches, everything]

"""What the source model answers, batch by batch: the truth that the gate and golden.npz hold a version against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import compare
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import Golden

Arrays = Mapping[str, NDArray[Any]]
#: Takes and gives name to array.
Predict = Callable[[Arrays], dict[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the reference inputs and what the source model answers to them alone.

    Attributes:
        rows: Which rows.
        outputs: Output name to array.
    """

    rows: slice
    outputs: Arrays

    @property
    def size(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference inputs of one signature and the source model's answers.

    Attributes:
        inputs: Input name to array, all rows.
        batches: The answers; the last is the one to all rows.
    """

    inputs: Arrays
    batches: tuple[Batch, ...]

    @property
    def rows(self) -> int:
        """How many rows the inputs have."""
        return self.batches[-1].size

    @property
    def golden(self) -> Golden:
        """All inputs and answers, as golden.npz keeps them."""
        return Golden(self.inputs, self.batches[-1].outputs)

    @property
    def noise_floor(self) -> float:
        """Largest absolute difference of the source model from itself when the same rows come in another batch.

        No serving can be expected to be nearer. Outputs without a row for each input row are left out.
        """
        whole = self.batches[-1].outputs
        return max(
            (
                compare(whole[name][batch.rows], output).max_abs_diff
                for batch in self.batches
                for name, output in batch.outputs.items()
                if has_rows(whole[name], self.rows) and has_rows(output, batch.size)
            ),
            default=0.0,
        )


def has_rows(output: NDArray[Any], rows: int) -> bool:
    """Tell whether an output has one entry for each input row."""
    return output.ndim > 0 and output.shape[0] == rows


def ask(predict: Predict, inputs: Arrays) -> Reference:
    """Ask the source model for the first row, the last one, two, three (an odd number), and all together.

    Args:
        predict: The source model.
        inputs: Input name to array of at least three rows.

    Raises:
        ExportError: The model fails on an input.
    """
    rows = next(iter(inputs.values())).shape[0]
    batches = []
    for start, stop in ((0, 1), (rows - 1, rows), (0, 2), (0, 3), (0, rows)):
        part = slice(start, stop)
        outputs = predict({name: array[part] for name, array in inputs.items()})
        batches.append(Batch(part, {name: np.array(output) for name, output in outputs.items()}))
    empty = [name for name, output in batches[-1].outputs.items() if output.size == 0]
    if empty:
        raise ExportError(f"the model's output {empty[0]!r} is empty for the example inputs, which proves nothing")
    return Reference(inputs, tuple(batches))

"""Join the inputs of several requests into one run's, and split its outputs again; plain functions on arrays.

The texts are TensorFlow Serving's.

Source: tensorflow_serving/batching/batching_session.cc, batching_util.cc.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import FailedPrecondition, InvalidArgument
from tfbundle_serving.apis.predict import Arrays


def count_rows(inputs: Arrays) -> int:
    """Count the rows of a request.

    Raises:
        InvalidArgument: An input has no rows, or they have different numbers of them.
    """
    rows = -1
    for array in inputs.values():
        if array.ndim == 0:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if rows not in (-1, array.shape[0]):
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
        rows = array.shape[0]
    return rows


def kind_of(inputs: Arrays, *, any_size: bool) -> Hashable:
    """Give what two requests must have in common to be joined: aliases, dtypes, and what a row looks like.

    Args:
        inputs: Alias to array of rank 1 or more.
        any_size: Whether rows of different sizes are padded; then their rank counts.
    """
    if any_size:
        return frozenset((alias, array.dtype, array.ndim) for alias, array in inputs.items())
    return frozenset((alias, array.dtype, array.shape[1:]) for alias, array in inputs.items())


def round_up(rows: int, allowed: Sequence[int]) -> int:
    """Give the smallest allowed batch size that holds so many rows; the same number where any is allowed."""
    return next((size for size in allowed if size >= rows), rows)


def join(requests: Sequence[Arrays], *, rows: int) -> dict[str, NDArray[Any]]:
    """Put the rows of several requests one after another.

    Args:
        requests: Inputs of one kind (see `kind_of`), with at least one row each.
        rows: Rows that there shall be; the first row of the last request is repeated until they are reached. Where
            rows differ in size, each request is padded with its own first element.
    """
    return {alias: _join([request[alias] for request in requests], rows) for alias in requests[0]}


def _join(arrays: list[NDArray[Any]], rows: int) -> NDArray[Any]:
    if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        largest = tuple(map(max, *(array.shape[1:] for array in arrays)))
        arrays = [_fill(array, largest) for array in arrays]
    missing = rows - sum(map(len, arrays))
    if missing:
        arrays = [*arrays, np.repeat(arrays[-1][:1], missing, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _fill(array: NDArray[Any], row_shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape[1:] == row_shape:
        return array
    first = array.flat[0] if array.size else (b"" if array.dtype == object else 0)
    filled = np.full((len(array), *row_shape), first, array.dtype)
    filled[tuple(map(slice, array.shape))] = array
    return filled


def split(outputs: Arrays, counts: Sequence[int], *, rows: int) -> list[dict[str, NDArray[Any]]]:
    """Give each request its rows of the outputs, as views.

    Args:
        outputs: What the joined run gave.
        counts: Rows of each request, in the order in which they were joined.
        rows: Rows that ran; those after the requests' own are padding.

    Raises:
        FailedPrecondition: An output does not have a row for each row that ran.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    ends = list(accumulate(counts))
    return [
        {alias: array[end - count : end] for alias, array in outputs.items()}
        for count, end in zip(counts, ends, strict=True)
    ]

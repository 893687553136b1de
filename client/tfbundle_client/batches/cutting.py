"""Any number of rows becomes batches: arrays, tables and streams of rows are cut without being copied as a whole.

    array, memory map       consecutive slices
    {name: array}           the same slices of each; an input without rows (a scalar) goes along with every batch
    DataFrame, Series       consecutive slices
    iterable of rows        as many as a batch holds are stacked; a row is what an input is without its first dimension
    iterable of batches     sent as they come, cut where they are larger

Rows and batches are told apart by the signature: an element with as many dimensions as the input is a batch.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import InvalidArgument, SignatureMismatch
from tfbundle_serving.apis.signatures import Signature, TensorSpec

from ..calls.input_fitting import describe_inputs, only_input

#: A read-only memory map lets its pages go when this much of it was passed, in bytes.
_RELEASE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that are sent together.

    Attributes:
        first_row: Number of its first row in the stream, from 0.
        rows: How many rows it has.
        inputs: What `Client.predict` takes.
    """

    first_row: int
    rows: int
    inputs: Any


def cut_whole(data: Any, batch_size: int, signature: Signature, first_row: int = 0) -> Iterator[Batch] | None:
    """Cut what is there as a whole.

    Args:
        data: An array, {name: array}, a DataFrame, or anything else.
        batch_size: Rows in a batch at most.
        signature: Says which inputs have rows.
        first_row: Number of the first row.

    Returns:
        The batches; None where the data is none of these, and is to be iterated over.

    Raises:
        InvalidArgument: The data is a text.
        SignatureMismatch: The arrays have different numbers of rows, or none has rows.
    """
    if isinstance(data, str | bytes):
        raise InvalidArgument("data is an array, {name: array} or an iterable of rows, got a text", attempts=0)
    if isinstance(data, Mapping):
        named = dict(data)
        with_rows = [name for name in named if not _is_constant(signature.inputs.get(name))]
        rows = _count_rows(named, with_rows, signature)
        return _slices(named, with_rows, rows, batch_size, first_row)
    if hasattr(data, "iloc") or isinstance(data, np.ndarray) or (hasattr(data, "shape") and hasattr(data, "dtype")):
        rows = _count_rows({"": data}, [""], signature)
        return (
            Batch(each.first_row, each.rows, each.inputs[""])
            for each in _slices({"": data}, [""], rows, batch_size, first_row)
        )
    return None


def _is_constant(spec: TensorSpec | None) -> bool:
    return spec is not None and spec.shape == ()


def _count_rows(named: Mapping[str, Any], with_rows: Sequence[str], signature: Signature) -> int:
    counts = {}
    for name in with_rows:
        value = named[name]
        if not hasattr(value, "__len__") or getattr(value, "shape", None) == ():
            raise SignatureMismatch(f"input {name!r} has no rows: {describe_inputs(signature)}", attempts=0)
        counts[name] = len(value)
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name}: {rows}" for name, rows in counts.items()) or "none has rows"
        raise SignatureMismatch(f"inputs must have one number of rows ({told})", attempts=0)
    return next(iter(counts.values()))


def _slices(
    named: Mapping[str, Any], with_rows: Sequence[str], rows: int, batch_size: int, first_row: int
) -> Iterator[Batch]:
    maps = [mapped for name in with_rows if (mapped := _read_only_map(named[name])) is not None]
    passed_bytes = 0
    for start in range(0, rows, batch_size):
        end = min(rows, start + batch_size)
        cut = {name: _slice(named[name], start, end) for name in with_rows}
        yield Batch(first_row + start, end - start, {**named, **cut})
        passed_bytes += sum(each.nbytes for each in cut.values() if maps and hasattr(each, "nbytes"))
        if passed_bytes > _RELEASE_BYTES:
            passed_bytes = 0
            for each in maps:
                each.madvise(mmap.MADV_DONTNEED)


def _slice(value: Any, start: int, end: int) -> Any:
    return value.iloc[start:end] if hasattr(value, "iloc") else value[start:end]


def _read_only_map(array: Any) -> mmap.mmap | None:
    """Find the memory map below an array, if nothing is lost when its pages are let go.

    They would only be read again; kept, they count as memory of this process until the system needs it.
    """
    is_safe = False
    while isinstance(array, np.ndarray):
        is_safe = getattr(array, "mode", None) == "r"
        array = array.base
    return array if is_safe and isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED") else None


class RowCollector:
    """Collects the elements of an iterable into batches.

    Args:
        batch_size: Rows in a batch at most.
        signature: Tells rows from batches.
        first_row: Number of the first row.
    """

    def __init__(self, batch_size: int, signature: Signature, first_row: int = 0) -> None:
        self._batch_size = batch_size
        self._signature = signature
        self._next_row = first_row
        self._rows: list[Any] = []
        self._elements = count()

    def add(self, element: Any) -> Iterator[Batch]:
        """Take one row or batch, and give the batches that are full.

        Raises:
            SignatureMismatch: It is neither a row nor a batch of the signature's inputs.
        """
        place = next(self._elements)
        if hasattr(element, "iloc") or not self._is_row(element, place):
            yield from self.end()
            for batch in cut_whole(self._named(element), self._batch_size, self._signature, self._next_row) or ():
                self._next_row += batch.rows
                yield batch
            return
        self._rows.append(element)
        if len(self._rows) == self._batch_size:
            yield from self.end()

    def end(self) -> Iterator[Batch]:
        """Give the rows that are left as a last batch."""
        rows, self._rows = self._rows, []
        if rows:
            batch = Batch(self._next_row, len(rows), self._stack(rows))
            self._next_row += len(rows)
            yield batch

    def _named(self, element: Any) -> Any:
        if isinstance(element, Mapping) or hasattr(element, "iloc"):
            return element
        return {only_input(self._signature): element}

    def _is_row(self, element: Any, place: int) -> bool:
        kinds = set()
        for name, value in self._named(element).items():
            spec = self._signature.inputs.get(str(name))
            if spec is None:
                raise SignatureMismatch(
                    f"element {place}: there is no input {name!r}: {describe_inputs(self._signature)}", attempts=0
                )
            if not spec.shape:  # of any rank, or without rows: only what is a batch can have it
                kinds.add("batch")
            else:
                kinds.add({0: "batch", 1: "row"}.get(len(spec.shape) - _rank(value), "neither"))
        if kinds not in ({"row"}, {"batch"}):
            raise SignatureMismatch(
                f"element {place} is neither a row nor a batch: {describe_inputs(self._signature)}", attempts=0
            )
        return kinds == {"row"}

    def _stack(self, rows: Sequence[Any]) -> dict[str, Any]:
        if not any(isinstance(row, Mapping) for row in rows):
            return {only_input(self._signature): self._stack_values(rows)}
        names = rows[0].keys() if isinstance(rows[0], Mapping) else {}.keys()
        if any(not isinstance(row, Mapping) or row.keys() != names for row in rows):
            raise SignatureMismatch(
                f"rows {self._next_row} to {self._next_row + len(rows) - 1} do not all have the inputs "
                f"{', '.join(map(str, names))}",
                attempts=0,
            )
        return {name: self._stack_values([row[name] for row in rows]) for name in names}

    def _stack_values(self, values: Sequence[Any]) -> Any:
        if not all(hasattr(value, "dtype") for value in values):
            return list(values)
        try:
            stacked: NDArray[Any] = np.stack(values)
        except ValueError as error:
            raise SignatureMismatch(
                f"rows {self._next_row} to {self._next_row + len(values) - 1} differ in shape: {error}", attempts=0
            ) from None
        return stacked


def _rank(value: Any) -> int:
    """Count the dimensions without making an array of a list."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape)
    rank = 0
    while isinstance(value, list | tuple):
        rank += 1
        if not value:
            break
        value = value[0]
    return rank + (len(value.shape) if hasattr(value, "shape") else 0)

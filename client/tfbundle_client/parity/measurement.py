"""One side is sent the reference inputs in requests of several sizes, and what it answers is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import Tolerance, compare
from tfbundle_serving.apis.errors import ParityError
from tfbundle_serving.apis.signatures import Signature

from .inputs import rows_of
from .ranking import TOP_K, top_k_agreement
from .reference import Expected
from .result import Run
from .sides import ServedSide

#: A request size that is neither a power of two nor one: what padding to the allowed batch sizes must get right.
_ODD = 7

#: One for all floats, or numpy dtype name ("float32") to its own; dtypes that it lacks have what is usual for them.
Tolerances = Tolerance | Mapping[str, Tolerance]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is sent and what may differ.

    Attributes:
        sizes: Examples a request, ascending; the last takes all.
        max_requests: At most that many requests of each size but the last.
        tolerance: What may differ; None means what the dtype allows.
        ptol: Share of values that may differ by more.
        top_k: How many of the best classes are compared.
        across_devices: The two sides run on devices of different classes, which round otherwise.
    """

    sizes: tuple[int, ...]
    max_requests: int
    tolerance: Tolerances | None = None
    ptol: float = 0.0
    top_k: int = TOP_K
    across_devices: bool = False

    def tolerance_of(self, array: NDArray[Any]) -> Tolerance | None:
        """Choose the tolerance of one output."""
        return self.tolerance.get(array.dtype.name) if isinstance(self.tolerance, Mapping) else self.tolerance


def choose_batch_sizes(
    wanted: Sequence[int] | None, examples: int, expected: Expected, signature: Signature
) -> tuple[int, ...]:
    """Choose how many examples go into a request.

    Args:
        wanted: What the caller asks for; None means 1, 2, 7 and all, or all alone where rows do not stand for
            themselves.
        examples: How many there are.
        expected: The reference.
        signature: The served signature.

    Raises:
        ParityError: A size is not positive.
    """
    whole = max(examples, 1)
    if wanted is not None:
        if not wanted or min(wanted) < 1:
            raise ParityError(f"batch sizes are positive numbers, got {list(wanted)}")
        return tuple(sorted({min(size, whole) for size in wanted}))
    specs = [
        *signature.inputs.values(),
        *(signature.outputs[name] for name in expected.golden.outputs if name in signature.outputs),
    ]
    has_rows = all(spec.shape is None or spec.shape[:1] == (None,) for spec in specs) and all(
        array.ndim and array.shape[0] == examples
        for array in (*expected.golden.inputs.values(), *expected.golden.outputs.values())
    )
    if not has_rows or not expected.is_batchable:
        return (whole,)
    return tuple(sorted({min(size, whole) for size in (1, 2, _ODD, whole)}))


def measure(side: ServedSide, expected: Expected, rules: Rules) -> tuple[tuple[Run, ...], dict[str, NDArray[Any]]]:
    """Send the reference inputs at each size.

    Returns:
        One run a size, and the outputs of the last.

    Raises:
        ParityError: Answers cannot be put together, or another version answered.
        ApiError: A request failed.
    """
    golden = expected.golden
    examples = rows_of(golden.inputs.values())
    wanted = tuple(golden.outputs)

    def ask(start: int, stop: int) -> tuple[Mapping[str, NDArray[Any]], float]:
        is_whole = start == 0 and stop >= examples
        inputs = {name: array if is_whole else array[start:stop] for name, array in golden.inputs.items()}
        answer = side.ask(inputs, expected.signature, wanted)
        return answer.outputs, answer.latency_s

    ask(0, rules.sizes[0])  # opens the connection; its time would not be the model's
    runs = []
    outputs: dict[str, NDArray[Any]] = {}
    for size in rules.sizes:
        rows = examples if size == rules.sizes[-1] else min(examples, size * rules.max_requests)
        answers = [ask(start, stop) for start, stop in _slices(rows, size)]
        outputs = {name: _join([answer[name] for answer, _ in answers], name, size) for name in wanted}
        is_whole = len(answers) == 1 and rows == examples
        parts = {name: array if is_whole else array[:rows] for name, array in golden.outputs.items()}
        runs.append(_compare(parts, outputs, size, rows, tuple(latency_s for _, latency_s in answers), rules))
    return tuple(runs), outputs


def _compare(
    expected: Mapping[str, NDArray[Any]],
    outputs: Mapping[str, NDArray[Any]],
    size: int,
    rows: int,
    latencies_s: tuple[float, ...],
    rules: Rules,
) -> Run:
    comparisons = {
        name: compare(array, outputs[name], rules.tolerance_of(array), rules.ptol, across_devices=rules.across_devices)
        for name, array in expected.items()
    }
    agreements = {
        name: top_k_agreement(array, outputs[name], comparisons[name].tolerance, rules.top_k)
        for name, array in expected.items()
    }
    return Run(
        batch_size=size,
        examples=rows,
        comparisons=comparisons,
        latencies_s=latencies_s,
        top_k_agreements={name: share for name, share in agreements.items() if share is not None},
        not_finite={name: (_not_finite(array), _not_finite(outputs[name])) for name, array in expected.items()},
    )


def _not_finite(array: NDArray[Any]) -> int:
    """Count NaNs and infinities."""
    if array.dtype.kind in "OSUbiu":
        return 0
    wide = array if array.dtype.kind in "fc" else array.astype(np.float32)
    return int(array.size - np.count_nonzero(np.isfinite(wide)))


def _slices(rows: int, size: int) -> Iterator[tuple[int, int]]:
    yield from ((start, min(start + size, rows)) for start in range(0, max(rows, 1), size))


def _join(parts: Sequence[NDArray[Any]], name: str, size: int) -> NDArray[Any]:
    if len(parts) == 1:
        return parts[0]
    if any(part.ndim == 0 for part in parts):
        raise ParityError(f"output {name!r} has no rows, so that requests of {size} examples cannot be put together")
    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise ParityError(f"answers of {size} examples cannot be put together for output {name!r}: {error}") from error

"""Run requests on a worker thread: together, or each alone where together fails or nobody else is there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from tfbundle_serving.apis.predict import Arrays

from .batching_arrays import count_rows, join, round_up, split
from .batching_rules import BatchingRules

if TYPE_CHECKING:
    from .servable import Servable

log = logging.getLogger(__name__)

Outputs = dict[str, NDArray[Any]]

#: TensorFlow's own words for a run that took too long.
TIMED_OUT = "Timed out waiting for notification"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a signature, checked.

    Attributes:
        signature: A signature's name.
        inputs: Alias to array.
        outputs: Aliases of the wanted outputs.
    """

    signature: str
    inputs: Arrays
    outputs: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that waits for its outputs.

    Attributes:
        run: What it wants.
        answer: Gets the outputs or the error; it belongs to the event loop.
        since: When it came, by time.monotonic().
        deadline: When it must be answered, by the same clock; None means any time.
        rows: Rows of its inputs; 0 where nobody counted, because it runs alone.
        has_begun: Whether its run is under way.
    """

    run: Run
    answer: asyncio.Future[Outputs]
    since: float
    deadline: float | None
    rows: int = 0
    has_begun: bool = False


def run_batch(
    servable: Servable, rules: BatchingRules | None, requests: Sequence[Waiting]
) -> list[Outputs | Exception]:
    """Run requests of one kind; what a joined run refuses is run request by request, so that only the bad ones fail.

    Args:
        servable: The version.
        rules: How they were joined; None for a single request that runs alone.
        requests: One or more.

    Returns:
        The outputs or the error of each.
    """
    if len(requests) > 1:
        try:
            return [*_run_joined(servable, rules, requests)]
        except DeadlineExceeded:  # the latest of their deadlines is over
            return [DeadlineExceeded(TIMED_OUT) for _ in requests]
        except Exception as error:  # it may be the fault of one, and the others must not pay for it
            log.debug("%d joined requests are run one by one: %s", len(requests), error)
    return [_run_one(servable, rules, request) for request in requests]


def _run_one(servable: Servable, rules: BatchingRules | None, request: Waiting) -> Outputs | Exception:
    try:
        if rules is not None and rules.is_asked_for and request.rows:
            return _run_joined(servable, rules, [request])[0]
        return servable.run(request.run.signature, request.run.inputs, request.run.outputs, _time_left([request]))
    except Exception as error:  # raised again in the coroutine that waits for it
        return error


def _run_joined(servable: Servable, rules: BatchingRules | None, requests: Sequence[Waiting]) -> list[Outputs]:
    counts = [request.rows for request in requests]
    rows = round_up(sum(counts), rules.parameters.allowed_batch_sizes if rules else ())
    first = requests[0].run
    inputs = join([request.run.inputs for request in requests], rows=rows)
    outputs = servable.run(first.signature, inputs, first.outputs, _time_left(requests))
    try:
        return split(outputs, counts, rows=rows)
    except FailedPrecondition:
        if rules is not None and not rules.is_asked_for:
            log.warning("signature %s: an answer has no row for each row asked; joined no more", first.signature)
            rules.alone.add(first.signature)
        raise


def run_alone(servable: Servable, run: Run) -> Outputs:
    """Run a request that nobody waits for and nobody joins, such as a warm-up, in the shapes that batches have.

    Raises:
        InvalidArgument: Batches were asked for, and none can hold it.
        ApiError: Whatever the run says.
    """
    rules = servable.batching
    is_whole = len(run.inputs) == len(servable.signatures[run.signature].inputs)
    if rules is None or not rules.is_asked_for or not is_whole:
        return servable.run(run.signature, run.inputs, run.outputs)
    rows = check_rows(rules, run.inputs)
    parts = []
    for start in range(0, rows, rules.max_rows):
        inputs = {alias: array[start : start + rules.max_rows] for alias, array in run.inputs.items()}
        counts = [count_rows(inputs)]
        size = round_up(counts[0], rules.parameters.allowed_batch_sizes)
        parts += split(servable.run(run.signature, join([inputs], rows=size), run.outputs), counts, rows=size)
    if len(parts) == 1:
        return parts[0]
    if not parts:  # a request without rows does not go through batches
        return servable.run(run.signature, run.inputs, run.outputs)
    return {alias: np.concatenate([part[alias] for part in parts]) for alias in run.outputs}


def check_rows(rules: BatchingRules, inputs: Arrays) -> int:
    """Count the rows of a request that goes through batches which were asked for.

    Raises:
        InvalidArgument: Its inputs have no rows, or different numbers of them, or more than a batch holds.
    """
    rows, most = count_rows(inputs), rules.parameters.max_batch_size
    if rows > most:
        raise InvalidArgument(f"Task size {rows} is larger than maximum input batch size {most}")
    return rows


def _time_left(requests: Sequence[Waiting]) -> float | None:
    """Give the seconds until the last deadline; None where one has none."""
    latest = 0.0
    for request in requests:
        if request.deadline is None:
            return None
        latest = max(latest, request.deadline)
    return latest - time.monotonic()

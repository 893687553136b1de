"""Gather requests while runs are under way, and start what has gathered when one ends.

Everything here happens on the event loop, so there are no locks; one hop to a worker thread and one back serve a whole
batch. Requests meet in a batch if they want the same outputs of the same signature of the same version and their
inputs have the same dtypes and rows of the same shape. Batches take turns in lanes: with --enable_batching there is
one lane of `num_batch_threads`, as in TensorFlow Serving; otherwise each kind of request has its own, where one runs.

Source: tensorflow/core/kernels/batching_util/shared_batch_scheduler.h; tensorflow_serving/batching/batching_session.cc.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from tfbundle_serving.apis.errors import InvalidArgument, Unavailable

from .batching_arrays import count_rows, kind_of, round_up
from .batching_rules import BatchingRules
from .batching_run import Outputs, Run, Waiting, check_rows, run_batch
from .live_version import LiveVersion
from .metrics import Metrics

#: Where nobody asked for batches, one slow run must not hold up what came later for longer than this.
PATIENCE_S = 0.05


@dataclass(slots=True, eq=False)
class _Batch:
    """Requests that will run together.

    Attributes:
        live: The version, held until the run has ended.
        rules: How they are joined; None for one that runs alone.
        kind: What they have in common.
        requests: The requests.
        rows: Their rows together.
        size: Bytes of their inputs together.
        is_ripe: Whether it need not wait for more.
        timer: Starts it, or makes it ripe, in time.
    """

    live: LiveVersion
    rules: BatchingRules | None = None
    kind: Hashable = None
    requests: list[Waiting] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    is_ripe: bool = True
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Lane:
    """Batches of which only so many run at once.

    Attributes:
        key: Its name.
        limit: How many.
        running: How many do.
        batches: Those that have not begun, oldest first.
        is_called: Whether `_advance` has been called for soon.
    """

    key: Hashable
    limit: int
    running: int = 0
    batches: list[_Batch] = field(default_factory=list)
    is_called: bool = False


class Gatherer:
    """Joins requests.

    Args:
        pool: Runs batches.
        metrics: Counts them.
        most_of_a_kind: Batches of one kind that run at once at most where nobody asked for batches, so that a slow
            model leaves threads to the others.
    """

    def __init__(self, pool: Executor, metrics: Metrics, *, most_of_a_kind: int) -> None:
        self._pool = pool
        self._most_of_a_kind = most_of_a_kind
        self._metrics = metrics
        self._lanes: dict[Hashable, _Lane] = {}
        self._open: dict[Hashable, _Batch] = {}

    def add(self, live: LiveVersion, request: Waiting) -> None:
        """Take in a request of a version that the caller holds; its answer comes into `request.answer`.

        Raises:
            InvalidArgument: No batch can hold it, and batches were asked for.
            Unavailable: Too many batches are waiting, or the server is stopping.
        """
        rules = live.servable.batching
        size = sum(array.nbytes for array in request.run.inputs.values())
        kind = None if rules is None else _kind(live, rules, request, size)
        if rules is None or kind is None:
            live.hold_again()
            self._start(_Lane(None, 1), _Batch(live, requests=[request]))
            return
        lane = self._lane(kind, rules)
        batch = self._open.get(kind)
        if batch is None or not _fits(batch, rules, request.rows, size):
            batch = self._new_batch(lane, live, rules, kind)
        batch.requests.append(request)
        batch.rows += request.rows
        batch.size += size
        if batch.rows >= rules.max_rows and not batch.is_ripe:
            self._ripen(lane, batch)

    def _lane(self, kind: Hashable, rules: BatchingRules) -> _Lane:
        threads = rules.parameters.num_batch_threads
        key, limit = (threads, threads) if rules.is_asked_for else (kind, 1)
        lane = self._lanes.get(key)
        if lane is None:
            lane = _Lane(key, limit)
        return lane

    def _new_batch(self, lane: _Lane, live: LiveVersion, rules: BatchingRules, kind: Hashable) -> _Batch:
        loop = asyncio.get_running_loop()
        full = self._open.get(kind)
        if full is not None and not full.is_ripe:
            self._ripen(lane, full)
        if rules.is_asked_for:
            self._expect_room(lane, rules, kind)
        self._lanes[lane.key] = lane
        live.hold_again()
        batch = self._open[kind] = _Batch(live, rules, kind)
        lane.batches.append(batch)
        wait_s = rules.parameters.batch_timeout_micros / 1e6
        if wait_s > 0:
            batch.is_ripe = False
            batch.timer = loop.call_later(wait_s, self._ripen, lane, batch)
        elif lane.running < lane.limit:
            self._call(lane)
        elif not rules.is_asked_for:
            batch.timer = loop.call_later(PATIENCE_S, self._hurry, lane, batch)
        return batch

    def _expect_room(self, lane: _Lane, rules: BatchingRules, kind: Hashable) -> None:
        self._advance(lane)  # what can begin does not wait
        waiting = sum(batch.kind == kind for batch in lane.batches)
        most = rules.parameters.max_enqueued_batches
        if waiting >= most:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{waiting} batches enqueued and max_enqueued_batches is {most}"
            )

    def _call(self, lane: _Lane) -> None:
        # Not at once: requests that came in the same turn of the loop shall join.
        if not lane.is_called:
            lane.is_called = True
            asyncio.get_running_loop().call_soon(self._advance, lane)

    def _ripen(self, lane: _Lane, batch: _Batch) -> None:
        batch.is_ripe = True
        self._call(lane)

    def _hurry(self, lane: _Lane, batch: _Batch) -> None:
        if batch not in lane.batches:
            return
        if lane.running >= self._most_of_a_kind:
            batch.timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._hurry, lane, batch)
            return
        lane.batches.remove(batch)
        self._start(lane, batch)

    def _advance(self, lane: _Lane) -> None:
        lane.is_called = False
        while lane.running < lane.limit:
            batch = next((each for each in lane.batches if each.is_ripe), None)
            if batch is None:
                break
            lane.batches.remove(batch)
            self._start(lane, batch)
        self._drop_if_idle(lane)

    def _drop_if_idle(self, lane: _Lane) -> None:
        if not lane.running and not lane.batches and self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]

    def _start(self, lane: _Lane, batch: _Batch) -> None:
        if self._open.get(batch.kind) is batch:
            del self._open[batch.kind]
        if batch.timer is not None:
            batch.timer.cancel()
        # Those whose time is up or whose caller has gone are left out.
        requests = [request for request in batch.requests if not request.answer.done()]
        if not requests:
            batch.live.release()
            return
        for request in requests:
            request.has_begun = True
        if batch.rules is not None:
            self._count(batch.rules, requests)
        lane.running += 1
        loop = asyncio.get_running_loop()

        def end(answers: Sequence[Outputs | Exception]) -> None:
            self._end(lane, requests, answers)

        try:
            self._pool.submit(_work, loop, batch.live, batch.rules, requests, end)
        except RuntimeError:  # the pool has ended
            batch.live.release()
            end([Unavailable("the server is stopping") for _ in requests])

    def _count(self, rules: BatchingRules, requests: Sequence[Waiting]) -> None:
        now, metrics = time.monotonic(), self._metrics
        for request in requests:
            metrics.queuing_latency.observe((now - request.since) * 1e6, "")
            metrics.input_batch_size.observe(request.rows)
        rows = sum(request.rows for request in requests)
        padded = round_up(rows, rules.parameters.allowed_batch_sizes)
        metrics.batch_runs.add()
        metrics.padding_size.observe(padded - rows, str(padded))
        metrics.processed_batch_size.observe(padded)

    def _end(self, lane: _Lane, requests: Sequence[Waiting], answers: Sequence[Outputs | Exception]) -> None:
        lane.running -= 1
        self._advance(lane)
        for request, answer in zip(requests, answers, strict=True):
            if request.answer.done():
                continue
            if isinstance(answer, Exception):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)


def _work(
    loop: asyncio.AbstractEventLoop,
    live: LiveVersion,
    rules: BatchingRules | None,
    requests: Sequence[Waiting],
    end: Callable[[Sequence[Outputs | Exception]], None],
) -> None:
    """Run a batch on a worker thread, let its version go, and tell the loop."""
    try:
        answers = run_batch(live.servable, rules, requests)
    finally:
        live.release()
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who waited
        loop.call_soon_threadsafe(end, answers)


def _kind(live: LiveVersion, rules: BatchingRules, request: Waiting, size: int) -> Hashable:
    """Give what requests must have in common to be joined with this one, and count its rows; None if it runs alone."""
    run = request.run
    signature = live.servable.signatures[run.signature]
    if run.signature in rules.alone or len(run.inputs) != len(signature.inputs):
        return None  # what a default stands for has no rows
    if rules.max_request_bytes is not None and size > rules.max_request_bytes:
        return None
    rows = _rows(rules, run)
    if not rows:
        return None
    request.rows = rows
    # The outputs as a set: in another order they are the same run.
    outputs = frozenset(run.outputs) if rules.is_asked_for else run.outputs
    kind = kind_of(run.inputs, any_size=rules.parameters.pad_variable_length_inputs)
    return live, run.signature, outputs, kind


def _rows(rules: BatchingRules, run: Run) -> int:
    """Count the rows of a request that a batch can hold; 0 for one that runs alone."""
    if rules.is_asked_for:
        return max(check_rows(rules, run.inputs), 0)
    try:
        rows = count_rows(run.inputs)
    except InvalidArgument:
        return 0
    return max(rows, 0) if rows <= rules.max_rows else 0


def _fits(batch: _Batch, rules: BatchingRules, rows: int, size: int) -> bool:
    return batch.rows + rows <= rules.max_rows and (rules.max_bytes is None or batch.size + size <= rules.max_bytes)

"""Between the event loop and the model: where a request waits for its run.

The loop hands runs to worker threads and goes on with other requests; TensorFlow gives the interpreter lock away while
it computes. Which requests run together is decided in `batching`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import DeadlineExceeded, ResourceExhausted

from .batching import Gatherer
from .batching_arrays import count_rows
from .batching_rules import BatchingRules
from .batching_run import TIMED_OUT, Outputs, Run, Waiting
from .live_version import LiveVersion
from .metrics import Metrics

P = ParamSpec("P")
T = TypeVar("T")


class Runner:
    """Runs requests on a pool of threads, together where their version allows it.

    Args:
        threads: Runs at once.
        metrics: Counts what runs together; None means that nobody looks.
    """

    def __init__(self, threads: int, metrics: Metrics | None = None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        # Apart, since a slow model may take every thread of the other for a while.
        self._aside = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="aside")
        self._gatherer = Gatherer(self._pool, metrics or Metrics(), most_of_a_kind=max(1, threads // 2))

    async def run(self, live: LiveVersion, run: Run, timeout_s: float | None) -> dict[str, NDArray[Any]]:
        """Run a signature of a version that the caller holds.

        The run itself holds the version as well: a caller who gives up, leaves, and lets go must not have it unloaded
        under a thread that still computes.

        Args:
            live: The version.
            run: What to run.
            timeout_s: Seconds until the answer, or DeadlineExceeded, comes, whatever the model does; None means no
                limit.

        Raises:
            ApiError: What the servable raises, or `batching.Gatherer.add`.
        """
        rules = live.servable.batching
        parts = _split(run, rules)
        if len(parts) == 1:
            return await self._run(live, rules, run, timeout_s)
        answers = await asyncio.gather(*(self._run(live, rules, part, timeout_s) for part in parts))
        return {alias: np.concatenate([answer[alias] for answer in answers]) for alias in run.outputs}

    async def _run(self, live: LiveVersion, rules: BatchingRules | None, run: Run, timeout_s: float | None) -> Outputs:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        if timeout_s is None:
            request = Waiting(run, loop.create_future(), now, None)
            self._gatherer.add(live, request)
            return await request.answer
        if timeout_s <= 0:
            raise DeadlineExceeded(TIMED_OUT)
        request = Waiting(run, loop.create_future(), now, now + timeout_s)
        # Never on the event loop, however quick the last runs were: the next may loop a million times.
        self._gatherer.add(live, request)
        timer = loop.call_later(timeout_s, _expire, request, rules)
        try:
            return await request.answer
        finally:
            timer.cancel()

    async def aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that would hold up the event loop on a worker thread."""
        return await asyncio.wrap_future(self._aside.submit(function, *args, **kwargs))

    def stop(self) -> None:
        """End the threads; runs that have not begun are dropped."""
        for pool in (self._pool, self._aside):
            pool.shutdown(wait=False, cancel_futures=True)


def _expire(request: Waiting, rules: BatchingRules | None) -> None:
    if request.answer.done():
        return
    if rules is not None and rules.is_asked_for and not request.has_begun:
        # TensorFlow Serving's answer once there is a queue.
        request.answer.set_exception(ResourceExhausted("Run() timeout exceeded while waiting in batching queue"))
    else:
        request.answer.set_exception(DeadlineExceeded(TIMED_OUT))


def _split(run: Run, rules: BatchingRules | None) -> list[Run]:
    """Split a request of more rows than run at once, where the parameters say so."""
    if rules is None or not rules.parameters.enable_large_batch_splitting:
        return [run]
    rows, limit = count_rows(run.inputs), rules.max_rows
    if not limit < rows <= rules.parameters.max_batch_size:
        return [run]
    return [
        Run(run.signature, {alias: array[start : start + limit] for alias, array in run.inputs.items()}, run.outputs)
        for start in range(0, rows, limit)
    ]

"""Sends a load from one event loop and measures it.

A thread of its own keeps the time of an open loop: an event loop's timers are good to a millisecond, which is as much
as a whole request takes. The thread sleeps, wakes within some 0.1 ms of the moment and has the loop start a request,
whatever has come back by then. How late the request started all the same is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from tfbundle_serving.apis.errors import ApiError, BundleError, ConnectionFailed, DecodeError

from ..transports.transport import Transfer
from .load import Load, send_times
from .measurement import Measurement, Sample

#: Sends one request, notes what it cost, and returns the version that answered, if the answer says.
Ask = Callable[[Transfer], Awaitable[int | None]]

#: What an answer that cannot be read is counted as; it is no status, since the server sent none.
UNREADABLE = "UNREADABLE_ANSWER"

#: Python's own 5 ms, for which a thread that is due waits for a busy one, would be several requests long.
_SWITCH_INTERVAL_S = 0.0002


async def run_load(load: Load, ask: Ask, stop: asyncio.Event) -> Measurement:
    """Send a load and wait for its answers.

    Args:
        load: What to send when.
        ask: Sends one request. It raises ApiError or DecodeError, and bounds its own time.
        stop: Set to end early: requests without an answer are given up, and what was measured is returned.
    """
    with _steady_interpreter():
        return await _run(load, ask, stop)


async def _run(load: Load, ask: Ask, stop: asyncio.Event) -> Measurement:
    run = _Run(load, ask, Measurement(load), time.perf_counter())
    sending = asyncio.ensure_future(_open_loop(run) if load.is_open else _closed_loop(run))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            run.measurement.was_interrupted = True
    finally:
        for task in (sending, stopping):
            task.cancel()
        # A fault of ours surfaces here; being cancelled is none.
        results = await asyncio.gather(sending, stopping, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
    return run.measurement


@contextlib.contextmanager
def _steady_interpreter() -> Iterator[None]:
    """Keep the interpreter's own pauses short: those to switch threads, and those to collect garbage."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(min(interval_s, _SWITCH_INTERVAL_S))
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(interval_s)


@dataclass(slots=True)
class _Run:
    load: Load
    ask: Ask
    measurement: Measurement
    start_s: float

    def now_s(self) -> float:
        """Seconds since the start of the warm-up."""
        return time.perf_counter() - self.start_s

    async def one(self, intended_s: float | None) -> None:
        """Send one request and measure it; without an intended moment, it is now."""
        sent_s = self.now_s()
        if intended_s is None:
            intended_s = sent_s
        transfer = Transfer()
        error = message = ""
        version = None
        try:
            version = await self.ask(transfer)
        except (ApiError, DecodeError) as failure:
            error, message = _name(failure), str(failure)
        except asyncio.CancelledError:
            if intended_s >= self.load.warm_up_s:
                self.measurement.unanswered += 1
            raise
        self.measurement.add(
            Sample(
                intended_s=intended_s,
                sent_s=sent_s,
                ended_s=self.now_s(),
                error=error,
                message=message,
                encode_s=transfer.encode_s,
                decode_s=transfer.decode_s,
                request_bytes=transfer.request_bytes or 0,
                response_bytes=transfer.response_bytes or 0,
                version=version,
            )
        )


def _name(failure: BundleError) -> str:
    """Name a failure as it is counted: by its status, and apart from that where no server sent one."""
    if isinstance(failure, ConnectionFailed):
        return "UNAVAILABLE (no connection)"
    return failure.status_name if isinstance(failure, ApiError) else UNREADABLE


async def _open_loop(run: _Run) -> None:
    loop = asyncio.get_running_loop()
    in_flight: set[asyncio.Task[None]] = set()
    fault: list[BaseException] = []
    all_sent = asyncio.Event()
    idle = asyncio.Event()

    def start(moments_s: list[float]) -> None:
        for moment_s in moments_s:
            task = loop.create_task(run.one(moment_s))
            in_flight.add(task)
            task.add_done_callback(end)

    def end(task: asyncio.Task[None]) -> None:
        in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            fault.append(error)
            all_sent.set()
        if not in_flight:
            idle.set()

    pacer = _Pacer(run, loop, start, all_sent.set)
    pacer.start()
    try:
        await all_sent.wait()
        while in_flight and not fault:
            idle.clear()
            await idle.wait()
    finally:
        pacer.stop()
        left = list(in_flight)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    if fault:
        raise fault[0]


class _Pacer:
    """The thread that keeps the time."""

    def __init__(
        self,
        run: _Run,
        loop: asyncio.AbstractEventLoop,
        start: Callable[[list[float]], None],
        all_sent: Callable[[], object],
    ) -> None:
        self._run = run
        self._loop = loop
        self._start = start
        self._all_sent = all_sent
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="tfbundle-bench", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the loop must still run, or be about to."""
        self._stopped.set()
        self._thread.join()

    def _keep_time(self) -> None:
        due: list[float] = []
        for moment_s in send_times(self._run.load):
            ahead_s = moment_s - self._run.now_s()
            if ahead_s > 0:
                if due:
                    self._loop.call_soon_threadsafe(self._start, due)
                    due = []
                    ahead_s = moment_s - self._run.now_s()
                if ahead_s > 0 and self._stopped.wait(ahead_s):
                    return
            elif self._stopped.is_set():
                return
            due.append(moment_s)
        self._loop.call_soon_threadsafe(self._start, due)
        self._loop.call_soon_threadsafe(self._all_sent)


async def _closed_loop(run: _Run) -> None:
    async def keep_one_in_flight() -> None:
        while run.now_s() < run.load.total_s:
            await run.one(None)
            await asyncio.sleep(0)  # a request that fails at once would never let anyone else run

    workers = [asyncio.ensure_future(keep_one_in_flight()) for _ in range(run.load.concurrency or 1)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

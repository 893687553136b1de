"""Between the event loop and the model: where a request waits for its run.

The loop hands a run to a worker thread and goes on with other requests; TensorFlow gives the interpreter lock away
while it computes. A runner that joins requests into batches takes this one's place without anybody else noticing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from numpy.typing import NDArray

from tfbundle_serving.apis.errors import Unavailable
from tfbundle_serving.apis.predict import Arrays

from .live_version import LiveVersion

P = ParamSpec("P")
T = TypeVar("T")


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


class Runner:
    """Runs every request for itself, on a pool of threads.

    Args:
        threads: Runs at once.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")

    async def run(self, live: LiveVersion, run: Run, timeout_s: float | None) -> dict[str, NDArray[Any]]:
        """Run a signature of a version that the caller holds.

        The run itself holds the version as well: a caller who gives up, leaves, and lets go must not have it unloaded
        under a thread that still computes.

        Raises:
            ApiError: What the servable raises.
        """
        # Never on the event loop, however quick the last runs were: the next may loop a million times.
        live.hold_again()

        def let_go(_: Future[Any]) -> None:
            live.release()

        try:
            future = self._pool.submit(live.servable.run, run.signature, run.inputs, run.outputs, timeout_s)
        except RuntimeError as error:  # the pool has ended
            live.release()
            raise Unavailable("the server is stopping") from error
        future.add_done_callback(let_go)
        return await asyncio.wrap_future(future)

    async def aside(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that would hold up the event loop on a worker thread."""
        return await asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))

    def stop(self) -> None:
        """End the threads; runs that have not begun are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

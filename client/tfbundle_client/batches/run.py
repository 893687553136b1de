"""Several batches of a stream at once, their answers in order: with threads, and in an event loop.

No more batches are alive than are in flight, apart from one that waits for its turn and the answer that the caller
holds. A generator that is closed early sends nothing more: what waits is dropped, and the answers to messages that are
on their way are thrown away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .cutting import Batch, RowCollector, cut_whole
from .flow import BatchPrediction, Stream


def run_blocking(stream: Stream, answer: Callable[[Batch], BatchPrediction]) -> Generator[BatchPrediction, None, None]:
    """Give the answers to a stream's batches, in order.

    Args:
        stream: The stream.
        answer: Gets the answer to one batch; called by several threads.
    """
    waiting: deque[Future[BatchPrediction]] = deque()
    pool = ThreadPoolExecutor(stream.settings.in_flight, thread_name_prefix="predict_batches")
    trouble: BaseException | None = None
    try:
        batches = _batches(stream)
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:
                # The caller's rows ended in an error; the answers to those before it are his all the same.
                trouble, batch = error, None
            if batch is None:
                break
            done = waiting.popleft().result() if len(waiting) == stream.settings.in_flight else None
            waiting.append(pool.submit(answer, batch))
            if done is not None:
                yield done
        while waiting:
            yield waiting.popleft().result()
    finally:
        stream.close()
        pool.shutdown(wait=False, cancel_futures=True)
    if trouble is not None:
        raise trouble


async def run_async(
    stream: Stream, answer: Callable[[Batch], Coroutine[Any, Any, BatchPrediction]]
) -> AsyncGenerator[BatchPrediction, None]:
    """Give the answers to a stream's batches, in order; see `run_blocking`.

    Args:
        stream: The stream; its data may be an asynchronous iterable, too.
        answer: Gets the answer to one batch.
    """
    waiting: deque[asyncio.Task[BatchPrediction]] = deque()
    trouble: BaseException | None = None
    batches = _batches_async(stream)
    try:
        while True:
            try:
                batch = await anext(batches, None)
            except Exception as error:
                trouble, batch = error, None
            if batch is None:
                break
            done = await waiting.popleft() if len(waiting) == stream.settings.in_flight else None
            waiting.append(asyncio.create_task(answer(batch)))
            if done is not None:
                yield done
        while waiting:
            yield await waiting.popleft()
    finally:
        stream.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await batches.aclose()
    if trouble is not None:
        raise trouble


def _batches(stream: Stream) -> Iterator[Batch]:
    size, first_row = stream.settings.batch_size, stream.settings.first_row
    whole = cut_whole(stream.data, size, stream.signature, first_row)
    if whole is not None:
        yield from whole
        return
    collector = RowCollector(size, stream.signature, first_row)
    for element in stream.data:
        yield from collector.add(element)
    yield from collector.end()


async def _batches_async(stream: Stream) -> AsyncGenerator[Batch, None]:
    if not hasattr(stream.data, "__aiter__"):
        for batch in _batches(stream):
            yield batch
        return
    collector = RowCollector(stream.settings.batch_size, stream.signature, stream.settings.first_row)
    async for element in stream.data:
        for batch in collector.add(element):
            yield batch
    for batch in collector.end():
        yield batch

"""Both clients under one synchronous face, so that the very same test bodies run over either."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from tfbundle_client import AsyncClient, Client


class AsyncFace:
    """An AsyncClient that lives in an event loop of its own thread; what its methods give is waited for."""

    def __init__(self, url: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._make(url, settings))
        except BaseException:
            self._stop()
            raise

    async def _make(self, url: str, settings: dict[str, Any]) -> AsyncClient:
        return AsyncClient(url, **settings)

    def _wait(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result()

    def _iterate(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._wait(anext(found))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._wait(cast(Any, found).aclose())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            result = found(*args, **options)
            if inspect.isasyncgen(result):
                return self._iterate(result)
            return self._wait(result) if inspect.isawaitable(result) else result

        return call

    def close(self) -> None:
        """Close the client and end its loop."""
        try:
            self._wait(self._client.close())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def opened(kind: str, url: str, **settings: Any) -> Iterator[Client]:
    """Open a client for the length of a block: "sync", or "async" behind its synchronous face."""
    client = Client(url, **settings) if kind == "sync" else cast(Client, AsyncFace(url, **settings))
    try:
        yield client
    finally:
        client.close()

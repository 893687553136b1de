"""A resource that belongs to one event loop: connections whose sockets that loop watches."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakSet

from tfbundle_serving.apis.errors import FailedPrecondition

from .per_process import CLOSED

Resource = TypeVar("Resource")


class PerLoop(Generic[Resource]):
    """Makes a resource when it is first wanted in an event loop, so that one client can go through several.

    A loop that was closed without the resource takes it along: nothing can be awaited there any more.
    """

    def __init__(self, create: Callable[[], Resource], destroy: Callable[[Resource], Awaitable[None]]) -> None:
        self._create = create
        self._destroy = destroy
        # The loop is kept beside its id, which otherwise could come again; the process, since a forked child may run on
        # with what it inherited.
        self._by_loop: dict[tuple[int, int], tuple[asyncio.AbstractEventLoop, Resource]] = {}
        self._closed: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def get(self) -> Resource:
        """Give the running loop's resource.

        Raises:
            FailedPrecondition: It was closed in this loop, perhaps in the middle of a call.
        """
        loop = asyncio.get_running_loop()
        held = self._by_loop.get((os.getpid(), id(loop)))
        if held is not None:
            return held[1]
        if loop in self._closed:
            raise FailedPrecondition(CLOSED, attempts=0)
        for key, (other, _) in list(self._by_loop.items()):
            if other.is_closed():
                self._by_loop.pop(key, None)
        resource = self._create()
        self._by_loop[os.getpid(), id(loop)] = loop, resource
        return resource

    async def close(self) -> None:
        """Destroy the running loop's resource."""
        loop = asyncio.get_running_loop()
        self._closed.add(loop)
        held = self._by_loop.pop((os.getpid(), id(loop)), None)
        if held is not None:
            await self._destroy(held[1])

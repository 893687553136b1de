"""A resource that a forked child must not share with its parent: connections, and the threads behind them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from tfbundle_serving.apis.errors import FailedPrecondition

Resource = TypeVar("Resource")

#: What a call is told that comes too late.
CLOSED = "the client is closed"


class PerProcess(Generic[Resource]):
    """Makes a resource when it is first wanted, and another one in each process that inherits this object.

    There is no lock: one that another thread held at the time of the fork would never open again in the child.
    """

    def __init__(self, create: Callable[[], Resource], destroy: Callable[[Resource], None]) -> None:
        self._create = create
        self._destroy = destroy
        self._by_pid: dict[int, Resource] = {}
        self._is_closed = False

    def get(self) -> Resource:
        """Give this process's resource.

        Raises:
            FailedPrecondition: It was closed, perhaps by another thread in the middle of a call.
        """
        pid = os.getpid()
        resource = self._by_pid.get(pid)
        if resource is None:
            if self._was_closed():
                raise FailedPrecondition(CLOSED, attempts=0)
            made = self._create()
            resource = self._by_pid.setdefault(pid, made)
            if resource is not made:  # another thread was first
                self._destroy(made)
            if self._was_closed():  # another thread closed meanwhile, and may have missed what was made
                self.close()
                raise FailedPrecondition(CLOSED, attempts=0)
        return resource

    def _was_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Destroy this process's resource; a parent's one is the parent's."""
        self._is_closed = True
        resource = self._by_pid.pop(os.getpid(), None)
        if resource is not None:
            self._destroy(resource)

"""A resource that a forked child must not share with its parent: connections, and the threads behind them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Resource = TypeVar("Resource")


class PerProcess(Generic[Resource]):
    """Makes a resource when it is first wanted, and another one in each process that inherits this object.

    There is no lock: one that another thread held at the time of the fork would never open again in the child.
    """

    def __init__(self, create: Callable[[], Resource], destroy: Callable[[Resource], None]) -> None:
        self._create = create
        self._destroy = destroy
        self._by_pid: dict[int, Resource] = {}

    def get(self) -> Resource:
        """Give this process's resource."""
        pid = os.getpid()
        resource = self._by_pid.get(pid)
        if resource is None:
            made = self._create()
            resource = self._by_pid.setdefault(pid, made)
            if resource is not made:  # another thread was first
                self._destroy(made)
        return resource

    def close(self) -> None:
        """Destroy this process's resource; a parent's one is the parent's."""
        resource = self._by_pid.pop(os.getpid(), None)
        if resource is not None:
            self._destroy(resource)

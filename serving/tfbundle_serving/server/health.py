"""Whether the server, and each model, may be sent requests: the truth, from the states of the versions.

A model serves while one of its versions is AVAILABLE. The server as a whole serves while every model does that should;
one whose versions were all taken away on purpose should not. TensorFlow Serving says SERVING from start to death.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tfbundle_serving.apis.health import ServingStatus
from tfbundle_serving.apis.model_status import State

from .manager import Manager, VersionEvent

#: Names that mean the server as a whole; TensorFlow Serving's own are the two without a package.
SERVER_NAMES = frozenset(
    {
        "",
        "ModelService",
        "PredictionService",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }
)

#: A model that is no longer wanted after it failed changes the answer without an event.
_LOOK_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Someone who waits for a change, and the loop on which that happens."""

    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the watcher with it
            self.loop.call_soon_threadsafe(self.changed.set)


class Health:
    """Answers health checks.

    Args:
        manager: Owns the versions; tells of each change.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._is_stopping = False
        # Replaced as a whole, since events come from other threads.
        self._watchers: tuple[_Watcher, ...] = ()
        manager.listeners.append(self._on_event)

    def models(self) -> dict[str, ServingStatus]:
        """Give the status of every model that should serve."""
        return {name: status for name in self._manager.models() if (status := self._status(name, is_asked=False))}

    def overall(self) -> ServingStatus:
        """Give the status of the server as a whole."""
        serves = not self._is_stopping and all(each is ServingStatus.SERVING for each in self.models().values())
        return ServingStatus.SERVING if serves else ServingStatus.NOT_SERVING

    def of(self, service: str) -> ServingStatus:
        """Give the status of a service: one of `SERVER_NAMES`, or a model's name; SERVICE_UNKNOWN for others."""
        if service in SERVER_NAMES:
            return self.overall()
        if not self._manager.knows(service):
            return ServingStatus.SERVICE_UNKNOWN
        return ServingStatus.NOT_SERVING if self._is_stopping else self._status(service, is_asked=True)

    async def watch(self, service: str) -> AsyncIterator[ServingStatus]:
        """Give the status of a service now and after every change, until the server stops."""
        watcher = _Watcher(asyncio.get_running_loop(), asyncio.Event())
        self._watchers = (*self._watchers, watcher)
        said = None
        try:
            while True:
                watcher.changed.clear()
                status = self.of(service)
                if status is not said:
                    said = status
                    yield status
                if self._is_stopping:
                    return
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(watcher.changed.wait(), _LOOK_AGAIN_S)
        finally:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def stop(self) -> None:
        """From now on nothing serves; who watches is told, and let go."""
        self._is_stopping = True
        self._wake()

    def _on_event(self, _: VersionEvent) -> None:
        self._wake()

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.wake()

    def _status(self, model: str, *, is_asked: bool) -> ServingStatus:
        """Give a model's status; UNKNOWN for one that need not serve, unless somebody asks for it by name."""
        statuses = self._manager.status(model)
        if any(each.is_available for each in statuses):
            return ServingStatus.SERVING
        is_coming = any(each.state in (State.START, State.LOADING) for each in statuses)
        if is_asked or is_coming or self._manager.failures(model):
            return ServingStatus.NOT_SERVING
        return ServingStatus.UNKNOWN

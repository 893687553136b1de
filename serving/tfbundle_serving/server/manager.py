"""The states of all versions: loads and unloads them, and finds the one that a request means.

    START -> LOADING -> AVAILABLE -> UNLOADING -> END

AVAILABLE is published once requests can reach the version, UNLOADING before they no longer can. A version that cannot
be loaded ends with its error and keeps it. What to do is decided in `transitions`; this module does it, on worker
threads, so that a version that takes long or fails again and again never holds up another.

Source: tensorflow_serving/core/basic_manager.cc, aspired_versions_manager.cc, loader_harness.cc.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfbundle_serving.apis.errors import ApiError, Internal
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus

from .folder_stamp import Stamp, folder_stamp
from .live_version import LiveVersion
from .routes import Routes
from .settings import LoadSettings
from .transitions import VersionSnapshot, next_steps

if TYPE_CHECKING:
    from .servable import Servable

log = logging.getLogger(__name__)

#: Loads one version: model name, version number and folder to servable; raises ApiError.
Loader = Callable[[str, int, Path], "Servable"]

#: At start more versions load at once than later, when requests want the cores.
INITIAL_LOAD_THREADS = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """A version that could not be loaded, and its folder as it was when that was tried."""

    version: int
    path: Path
    stamp: Stamp
    error: ApiError


@dataclass(slots=True)
class _Entry:
    """What the manager knows of one version; changed under the manager's lock alone."""

    version: int
    path: Path
    state: State = State.START
    is_aspired: bool = True
    is_busy: bool = False
    attempts: int = 0
    retry_at: float = 0.0
    failure: Failure | None = None
    live: LiveVersion | None = None

    def snapshot(self, now: float) -> VersionSnapshot:
        return VersionSnapshot(
            version=self.version,
            state=self.state,
            is_aspired=self.is_aspired,
            is_due=now >= self.retry_at,
            is_busy=self.is_busy,
        )

    def status(self) -> VersionStatus:
        error = self.failure.error if self.failure and self.state is State.END else None
        return VersionStatus(self.version, self.state, error.code if error else 0, error.message if error else "")

    def begin_anew(self) -> None:
        self.state, self.attempts, self.retry_at, self.failure = State.START, 0, 0.0, None


@dataclass(frozen=True, slots=True)
class VersionEvent:
    """A version came into a state."""

    model: str
    status: VersionStatus


@dataclass(slots=True)
class Manager:
    """Owns all versions of all models.

    Attributes:
        loader: Loads one version.
        settings: How often, how many at once.
        listeners: Called with every event, in order, under the manager's lock: they must be quick and must not call
            the manager.
    """

    loader: Loader
    settings: LoadSettings = field(default_factory=LoadSettings)
    listeners: list[Callable[[VersionEvent], None]] = field(default_factory=list)
    _models: dict[str, dict[int, _Entry]] = field(default_factory=dict)
    _routes: Routes = field(default_factory=Routes)
    _wanted_labels: dict[str, dict[str, int]] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    _loads: ThreadPoolExecutor | None = None
    _unloads: ThreadPoolExecutor | None = None
    _loading: int = 0
    _load_limit: int = INITIAL_LOAD_THREADS
    _is_stopping: bool = False

    def start(self) -> None:
        """Start the threads."""
        most = max(self._load_limit, self.settings.load_threads)
        self._loads = ThreadPoolExecutor(most, thread_name_prefix="load")
        self._unloads = ThreadPoolExecutor(self.settings.unload_threads, thread_name_prefix="unload")
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Unload everything and end the threads.

        Returns:
            Whether every version ended within the time allowed.
        """
        with self._changed:
            self._is_stopping = True
            for entries in self._models.values():
                for entry in entries.values():
                    entry.is_aspired = False
            self._changed.notify_all()
        has_ended = self.wait(self._has_ended, timeout_s=timeout_s)
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        for pool in (self._loads, self._unloads):
            if pool is not None:
                pool.shutdown(wait=has_ended, cancel_futures=True)
        return has_ended

    def _has_ended(self) -> bool:
        return all(entry.state is State.END for entries in self._models.values() for entry in entries.values())

    def end_of_start(self) -> None:
        """From now on load as few versions at once as configured."""
        with self._changed:
            self._load_limit = self.settings.load_threads

    def aspire(self, model: str, versions: Mapping[int, Path]) -> None:
        """Say which versions of a model should be served; all others of it should not.

        A version that ended is begun anew when it is aspired after not having been.
        """
        with self._changed:
            if self._is_stopping:
                return
            entries = self._models.setdefault(model, {})
            for version, path in versions.items():
                entry = entries.get(version)
                if entry is None:
                    entries[version] = entry = _Entry(version, path)
                    self._publish(model, entry)
                elif entry.state is State.END and not entry.is_aspired:
                    entry.begin_anew()
                    self._publish(model, entry)
                entry.path = path
            for version, entry in entries.items():
                entry.is_aspired = version in versions
            self._changed.notify_all()

    def failures(self, model: str) -> list[Failure]:
        """List the aspired versions of a model that could not be loaded so far."""
        with self._changed:
            entries = self._models.get(model, {}).values()
            return [each.failure for each in entries if each.failure and each.is_aspired and not each.is_busy]

    def retry(self, model: str, version: int) -> None:
        """Try a failed version again now, as if for the first time."""
        with self._changed:
            entry = self._models[model][version]
            if entry.failure is None or entry.is_busy or not entry.is_aspired:
                return
            entry.begin_anew()
            self._publish(model, entry)
            self._changed.notify_all()

    def set_labels(self, model: str, labels: Mapping[str, int]) -> None:
        """Replace the version labels of a model.

        A label that exists moves no sooner than its new version is AVAILABLE; until then it stays where it is, and the
        version there stays loaded. So no request by label finds nothing.
        """
        with self._changed:
            self._wanted_labels[model] = dict(labels)
            self._move_labels(model)
            self._changed.notify_all()

    def labels(self, model: str) -> dict[str, int]:
        """Give the labels of a model as requests find them now."""
        return dict(self._routes.labels.get(model, {}))

    def _move_labels(self, model: str) -> None:
        live = self._routes.versions.get(model, {})
        now = self._routes.labels.get(model, {})
        wanted = self._wanted_labels.get(model, {})
        labels = {label: version if version in live else now.get(label, version) for label, version in wanted.items()}
        if labels != now:
            self._routes = self._routes.with_labels(model, labels)

    def _pinned(self, model: str, entries: Mapping[int, _Entry]) -> set[int]:
        """Find the versions that a label leaves as soon as its new version has loaded."""
        now = self._routes.labels.get(model, {})
        return {
            now[label]
            for label, version in self._wanted_labels.get(model, {}).items()
            if now.get(label, version) != version
            and (to := entries.get(version)) is not None
            and to.is_aspired
            and to.state in (State.START, State.LOADING)
        }

    def route(self, spec: ModelSpec) -> LiveVersion:
        """Find the version that a request means and hold it; the caller releases it.

        Raises:
            InvalidArgument: The model has no name, or the label is unknown.
            NotFound: No such version is AVAILABLE.
        """
        while True:
            # One that retires between the look-up and the hold has left the routes before: the next look sees that.
            live = self._routes.find(spec)
            if live.hold():
                return live

    def status(self, model: str) -> list[VersionStatus]:
        """Give the state of every version that a model ever had, highest first; empty for an unknown model."""
        with self._changed:
            return [entry.status() for _, entry in sorted(self._models.get(model, {}).items(), reverse=True)]

    def knows(self, model: str) -> bool:
        """Tell whether there is or was a version of a model; asked with every request, so without the lock."""
        return model in self._models

    def models(self) -> list[str]:
        """List the models that have or had versions."""
        with self._changed:
            return sorted(self._models)

    def wait(
        self,
        condition: Callable[[], bool],
        *,
        timeout_s: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> bool:
        """Wait until a condition on the manager holds.

        Returns:
            Whether it holds; False when the time is up or `cancelled` is set.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or (cancelled is not None and cancelled.is_set()):
                    return False
                # An event does not wake a condition, hence the short wait where there is one.
                self._changed.wait(left if cancelled is None else min(0.1, left or 0.1))
            return True

    def _run(self) -> None:
        with self._changed:
            while self._thread is not None:
                self._step()
                waiting = [
                    entry.retry_at
                    for entries in self._models.values()
                    for entry in entries.values()
                    if entry.state is State.LOADING and not entry.is_busy
                ]
                self._changed.wait(max(0.0, min(waiting) - time.monotonic()) if waiting else None)

    def _step(self) -> None:
        now = time.monotonic()
        for model, entries in self._models.items():
            unload_first = self.settings.unload_first
            steps = next_steps(
                (entry.snapshot(now) for entry in entries.values()),
                # Where the old version must go first, its label has a gap like everything else.
                pinned=() if unload_first else self._pinned(model, entries),
                unload_first=unload_first,
            )
            for version in steps.forget:
                self._publish(model, entries[version], State.END)
            for version in steps.unload:
                self._begin_unload(model, entries[version])
            for version in steps.load:
                if self._loading < self._load_limit:
                    self._begin_load(model, entries[version])

    def _publish(self, model: str, entry: _Entry, state: State | None = None) -> None:
        entry.state = entry.state if state is None else state
        event = VersionEvent(model, entry.status())
        for listener in self.listeners:
            listener(event)
        self._changed.notify_all()

    def _begin_load(self, model: str, entry: _Entry) -> None:
        assert self._loads is not None
        if entry.state is State.START:
            self._publish(model, entry, State.LOADING)
        entry.is_busy = True
        self._loading += 1
        self._loads.submit(self._load, model, entry, entry.path)

    def _load(self, model: str, entry: _Entry, path: Path) -> None:
        stamp = folder_stamp(path)
        failure = servable = None
        try:
            servable = self.loader(model, entry.version, path)
        except ApiError as error:
            failure = Failure(entry.version, path, stamp, error)
        except Exception as error:  # whatever a model does to TensorFlow must not end the server
            log.exception("loading %s version %d failed", model, entry.version)
            failure = Failure(entry.version, path, stamp, Internal(f"{type(error).__name__}: {error}"))
        with self._changed:
            self._loading -= 1
            entry.is_busy = False
            entry.failure = failure
            if servable is not None:
                entry.live = LiveVersion(model, entry.version, servable)
                self._routes = self._routes.with_version(entry.live)
                self._move_labels(model)
                self._publish(model, entry, State.AVAILABLE)
            elif failure is not None:
                self._after_failure(model, entry, failure.error)

    def _after_failure(self, model: str, entry: _Entry, error: ApiError) -> None:
        entry.attempts += 1
        if entry.attempts > self.settings.max_retries or not entry.is_aspired:
            self._publish(model, entry, State.END)
            return
        wait_s = self.settings.retry_interval_s
        entry.retry_at = time.monotonic() + wait_s
        log.warning(
            "%s version %d could not be loaded (attempt %d of %d, next in %g s or when its folder changes): %s: %s",
            *(model, entry.version, entry.attempts, self.settings.max_retries + 1, wait_s),
            *(error.status_name, error.message),
        )
        self._changed.notify_all()

    def _begin_unload(self, model: str, entry: _Entry) -> None:
        assert self._unloads is not None
        assert entry.live is not None
        self._publish(model, entry, State.UNLOADING)
        self._routes = self._routes.without_version(entry.live)
        entry.live.retire()
        self._unloads.submit(self._unload, model, entry, entry.live)

    def _unload(self, model: str, entry: _Entry, live: LiveVersion) -> None:
        live.wait_drained()
        try:
            live.servable.close()
        except Exception:  # as above; its memory may be lost, the server is not
            log.exception("unloading %s failed", live)
        with self._changed:
            entry.live = None
            self._publish(model, entry, State.END)
            if entry.is_aspired:  # wanted again while it was going
                entry.begin_anew()
                self._publish(model, entry)

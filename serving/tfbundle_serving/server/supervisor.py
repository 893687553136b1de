"""The process that starts, watches and stops the workers; see `workers`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from tfbundle_serving.apis.errors import ApiError, BundleError, Unavailable
from tfbundle_serving.config.models import ModelConfig, read_models

from .listening import GRACE_S, write_ports
from .metrics_sum import sum_metrics
from .settings import ServerSettings
from .worker_messages import Answer, Applied, Apply, Ask, Failed, Goodbye, Job, Loaded, Open, Opened, ShowMetrics
from .worker_questions import Questions
from .worker_slot import Phase, Slot

log = logging.getLogger(__name__)

#: How long a worker may take to show its numbers; then those it showed before count.
_METRICS_S = 2.0
#: How long workers may take to end, besides the grace that requests under way have.
_STOP_S = 20.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """Starts, watches and stops the workers.

    Args:
        settings: What to serve, and how; with ports that are taken.
        count: How many workers.
        on_started: Called once all of them listen, with what the last of them serves.
        path_socket: The bound UNIX socket that all of them accept from; None where there is none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        count: int,
        on_started: Callable[[Opened], None],
        path_socket: socket.socket | None = None,
    ) -> None:
        self._path_fd = None if path_socket is None else path_socket.fileno()
        self._settings = settings
        self._models = settings.models
        self._on_started = on_started
        self._slots = [Slot(number) for number in range(1, count + 1)]
        self._questions = Questions()
        self._reloads: deque[tuple[Slot, Ask]] = deque()
        self._is_reloading = False
        # Once all have loaded they are told to listen, and once all listen the start is over.
        self._may_open = False
        self._is_serving = False
        self._is_stopping = False
        self._failure: BundleError | None = None
        # What workers that have ended had counted: the sums never shrink.
        self._counted_before = b""

    def run(self) -> None:
        """Serve until a signal comes.

        Raises:
            BundleError: A worker could not start.
        """
        with self._signals() as woken:
            try:
                while not (self._is_stopping or self._failure):
                    self._start_due()
                    self._listen_to_workers(woken)
                    self._advance()
            finally:
                self._stop(woken)
        if self._failure is not None:
            raise self._failure

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.phase is Phase.DOWN and now >= slot.start_at:
                models = self._current_models()
                settings = replace(self._settings, models=models, ports_file=None)
                slot.start(Job(slot.number, settings, self._path_fd, is_replacement=self._is_serving))

    def _current_models(self) -> tuple[ModelConfig, ...]:
        """Give the models for a new worker: a file that is polled may have changed since the start."""
        settings = self._settings
        if self._is_serving and settings.config_file is not None and settings.config_poll_interval_s > 0:
            with contextlib.suppress(ApiError):  # the worker that reads it next complains
                self._models = read_models(settings.config_file)
        return self._models

    def _listen_to_workers(self, woken: socket.socket, until: float | None = None) -> None:
        """Wait until something happens, or until a moment, and take it in."""
        by_connection = {slot.connection: slot for slot in self._slots if slot.connection is not None}
        for ready in wait([*by_connection, woken], self._patience_s(until)):
            if isinstance(ready, socket.socket):
                ready.recv(4096)
                continue
            slot = by_connection[ready]  # type: ignore[index]
            try:
                message = ready.recv()  # type: ignore[union-attr]
            except (EOFError, OSError):
                self._on_end(slot)
            else:
                self._take(slot, message)
        self._questions.end_late()

    def _patience_s(self, until: float | None) -> float | None:
        moments = [*self._questions.deadlines(), *([] if until is None else [until])]
        if not self._is_stopping:
            moments += [slot.start_at for slot in self._slots if slot.phase is Phase.DOWN]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _take(self, slot: Slot, message: Any) -> None:
        if isinstance(message, Loaded):
            slot.phase = Phase.LOADED
        elif isinstance(message, Opened):
            self._on_opened(slot, message)
        elif isinstance(message, Failed):
            self._on_failed(slot, message.error)
        elif isinstance(message, Goodbye):
            slot.metrics = message.metrics
        elif isinstance(message, Answer):
            self._questions.take(slot, message)
        elif isinstance(message.task, Apply):
            self._reloads.append((slot, message))
        else:
            self._show_metrics(slot, message)

    def _advance(self) -> None:
        """Bring workers that have loaded up to date and let them listen; begin the next reload."""
        if self._reloads and not self._is_reloading:
            self._reload(*self._reloads.popleft())
        self._may_open = self._may_open or all(each.phase is Phase.LOADED for each in self._slots)
        if self._is_reloading or not self._may_open:
            return
        for slot in self._slots:
            if slot.phase is not Phase.LOADED:
                continue
            if slot.models == self._models:
                slot.phase = Phase.OPENING
                slot.send(Open())
            else:
                slot.phase, slot.models = Phase.SYNCING, self._models
                self._questions.ask([slot], Apply(self._models), partial(self._on_synced, slot))

    def _on_synced(self, slot: Slot, _: dict[int, Any]) -> None:
        if slot.phase is Phase.SYNCING:
            slot.phase = Phase.LOADED

    def _on_opened(self, slot: Slot, opened: Opened) -> None:
        slot.phase = Phase.OPEN
        if self._is_serving or self._failure is not None or len(self._open_slots()) < len(self._slots):
            return
        settings = self._settings
        try:
            if settings.ports_file is not None:
                write_ports(settings.ports_file, grpc=settings.grpc_port or 0, rest=settings.rest_port or 0)
        except BundleError as error:
            self._failure = error
            return
        self._is_serving = True
        self._on_started(opened)

    def _on_failed(self, slot: Slot, error: BundleError) -> None:
        if self._is_serving:
            log.error("worker %d could not start: %s", slot.number, error)
        elif self._failure is None:
            self._failure = error

    def _on_end(self, slot: Slot) -> None:
        pid, phase = slot.pid, slot.phase
        how = slot.bury()
        self._counted_before = sum_metrics([self._counted_before, slot.metrics])
        slot.metrics = b""
        self._questions.give_up(slot)
        if self._is_stopping or self._failure is not None:
            return
        if not self._is_serving:
            self._failure = BundleError(f"worker {slot.number} {how} before it listened")
            return
        wait_s = max(0.0, slot.start_at - time.monotonic())
        when = f"in {wait_s:.1f} s" if wait_s else "now"
        what = "" if phase is Phase.OPEN else f" while it was {phase.value}"
        log.error("worker %d (process %d) %s%s; another is started %s", slot.number, pid, how, what, when)

    # What one worker asks and all answer.

    def _open_slots(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.phase is Phase.OPEN]

    def _show_metrics(self, asker: Slot, ask: Ask) -> None:
        def done(answers: dict[int, Any]) -> None:
            for slot in self._slots:
                slot.metrics = answers.get(slot.number, slot.metrics)
            shown = sum_metrics([*(slot.metrics for slot in self._slots), self._counted_before])
            asker.send(Answer(ask.number, shown))

        self._questions.ask(self._open_slots(), ShowMetrics(), done, _METRICS_S)

    def _reload(self, asker: Slot, ask: Ask) -> None:
        """Have all workers serve other models, and answer when all do; where one cannot, all go back."""
        task = ask.task
        assert isinstance(task, Apply)
        self._is_reloading = True
        slots = self._open_slots()

        def done(answers: dict[int, Any]) -> None:
            applied: list[Applied] = list(answers.values())
            errors = [each.error for each in applied if each.error is not None]
            if errors:
                log.error("reload failed: %s: %s", errors[0].status_name, errors[0].message)
            error = errors[0] if errors else (None if applied else Unavailable("no worker is left to serve the models"))
            counts = {name: sum(each.metrics.get(name, 0) for each in applied) for name in task.metric_names}
            reply = Applied(task.models, error, counts)
            after = {number: each.models for number, each in answers.items()}
            if applied and all(models == applied[0].models for models in after.values()):
                self._models = applied[0].models
                self._after_reload(slots, asker, ask, reply)
                return
            # Some took the models and some refused them.
            astray = [slot for slot in slots if after.get(slot.number) != self._models and slot.phase is Phase.OPEN]
            self._questions.ask(astray, Apply(self._models), lambda _: self._after_reload(slots, asker, ask, reply))

        self._questions.ask(slots, task, done)

    def _after_reload(self, slots: list[Slot], asker: Slot, ask: Ask, reply: Applied) -> None:
        for slot in slots:
            slot.models = self._models
        self._is_reloading = False
        asker.send(Answer(ask.number, reply))

    # The end.

    def _stop(self, woken: socket.socket) -> None:
        self._is_stopping = True
        for slot in self._slots:
            slot.ask_to_stop()
        deadline = time.monotonic() + GRACE_S + _STOP_S
        while any(slot.connection is not None for slot in self._slots):
            self._listen_to_workers(woken, deadline)
            if time.monotonic() >= deadline:
                log.warning("workers did not end within %g s and are killed", GRACE_S + _STOP_S)
                self._kill()
                return

    def _kill(self) -> None:
        for slot in self._slots:
            slot.kill()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Handle signals, and give a socket from which something can be read once one came."""
        woken, wake = socket.socketpair()
        wake.setblocking(False)

        def handle(number: int, _: Any) -> None:
            if self._is_stopping:
                self._kill()
                os._exit(128 + number)
            self._is_stopping = True

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        fd_before = signal.set_wakeup_fd(wake.fileno())
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            woken.close()
            wake.close()

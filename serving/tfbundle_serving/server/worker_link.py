"""A worker's end of the channel to its supervisor: what it asks of all workers, and what it does for them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import ApiError, Internal, Unavailable
from tfbundle_serving.apis.reload_config import ReloadReply, ReloadRequest
from tfbundle_serving.config.models import parse_models

from .worker_messages import Answer, Applied, Apply, Ask, Open, ShowMetrics

if TYPE_CHECKING:
    from .lifecycle import Server

log = logging.getLogger(__name__)


class WorkerLink:
    """Speaks with the supervisor.

    Args:
        connection: The channel.
        on_open: Called when the worker is to listen.
        on_lost: Called when the supervisor is gone.
    """

    def __init__(self, connection: Connection, *, on_open: Callable[[], None], on_lost: Callable[[], None]) -> None:
        self._connection = connection
        self._on_open = on_open
        self._on_lost = on_lost
        self._server: Server | None = None
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._asked: dict[int, Future[Any]] = {}
        # A reload waits for loads; the thread that reads must not.
        self._applying = ThreadPoolExecutor(1, thread_name_prefix="apply")

    def serve(self, server: Server) -> None:
        """Begin to listen to the supervisor, and do for it what it asks with this server."""
        self._server = server
        threading.Thread(target=self._read, name="supervisor", daemon=True).start()

    def send(self, message: Any) -> None:
        """Tell the supervisor something; one that is gone hears nothing."""
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                self._on_lost()

    async def reload(self, request: ReloadRequest) -> ReloadReply:
        """Serve what a request asks for, in all workers.

        Raises:
            ApiError: The request is refused, or fails in one of them; then all serve what they served before.
            DecodeError: Its config is no ModelServerConfig.
        """
        server = self._server
        assert server is not None
        if server.settings.models_dir is not None:
            server.apply(())  # which is refused
        served = {model.name for model in server.configured()}
        models = await asyncio.to_thread(parse_models, request.config, served=served)
        applied: Applied = await self._ask(Apply(models, request.metric_names))
        if applied.error is not None:
            raise applied.error
        return ReloadReply(metrics=applied.metrics)

    async def metrics(self) -> bytes:
        """Show what all workers counted together."""
        shown: bytes = await self._ask(ShowMetrics())
        return shown

    async def _ask(self, task: Apply | ShowMetrics) -> Any:
        number = next(self._numbers)
        answer: Future[Any] = Future()
        self._asked[number] = answer
        try:
            self.send(Ask(number, task))
            return await asyncio.wrap_future(answer)
        finally:
            self._asked.pop(number, None)

    def _read(self) -> None:
        try:
            while True:
                self._take(self._connection.recv())
        except (EOFError, OSError):
            self._on_lost()
        for answer in list(self._asked.values()):
            if not answer.cancelled():
                answer.set_exception(Unavailable("the server is about to stop"))

    def _take(self, message: Any) -> None:
        if isinstance(message, Open):
            self._on_open()
        elif isinstance(message, Answer):
            answer = self._asked.pop(message.number, None)
            if answer is not None and answer.set_running_or_notify_cancel():
                answer.set_result(message.result)
        elif isinstance(message, Ask):
            self._do(message.number, message.task)

    def _do(self, number: int, task: Apply | ShowMetrics) -> None:
        assert self._server is not None
        if isinstance(task, Apply):
            self._applying.submit(self._apply, self._server, number, task)
        else:
            self.send(Answer(number, self._server.metrics.show()))

    def _apply(self, server: Server, number: int, task: Apply) -> None:
        before = {name: server.metrics.first_value(name) for name in task.metric_names}
        error: ApiError | None = None
        try:
            server.apply(task.models)
        except ApiError as caught:
            error = caught
        except Exception as caught:  # the supervisor waits for an answer, whatever happens
            log.exception("the models could not be replaced")
            error = Internal(f"{type(caught).__name__}: {caught}")
        after = {name: server.metrics.first_value(name) - value for name, value in before.items()}
        self.send(Answer(number, Applied(server.configured(), error, after)))

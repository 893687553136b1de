"""The server from start to stop: models first, then ports; and back, requests first, then models."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tfbundle_serving.apis.errors import STATUS_NAMES, BundleError, FailedPrecondition, Unknown
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.config.models import ModelConfig

from .dataplane import DataPlane
from .grpc_api import GrpcApi
from .health import Health
from .listeners import Listeners
from .listening import GRACE_S, bind, write_ports
from .loading import VersionLoader
from .loop_thread import LoopThread
from .manager import Manager, VersionEvent
from .metrics import Metrics, version_states
from .recorder import make_recorder
from .reload import Reloader
from .repository import Repository, check_models_dir
from .rest_api import RestApi
from .runner import Runner
from .settings import LoadSettings, ServerSettings
from .settled import available_versions, awaited_labels, failed_models, has_settled, say_failed
from .version_labels import bound_versions, check_labels

if TYPE_CHECKING:
    from .worker_link import WorkerLink

log = logging.getLogger(__name__)

#: Makes a context, such as one that silences stderr.
Importing = Callable[[], AbstractContextManager[None]]

#: A start that waits longer than this for labelled versions says so, and again when it waits for others.
_SILENT_S = 5.0
#: What may be added to the command line where a labelled version cannot be loaded.
_LABELS_FLAG = "--allow_version_labels_for_unavailable_models=true"


class StartCancelledError(BundleError):
    """The server was asked to stop before it had started."""


class Server:
    """The embedded server.

    Args:
        settings: What to serve, and how.
        listener: Called with every change of a version's state, quickly (see `Manager.listeners`).
        link: To the other workers that share the ports; None where this server is alone.
        path_socket: The bound UNIX socket that they share; None where there is none.
    """

    def __init__(
        self,
        settings: ServerSettings,
        listener: Callable[[VersionEvent], None] | None = None,
        *,
        link: WorkerLink | None = None,
        path_socket: socket.socket | None = None,
    ) -> None:
        self.settings = settings
        self._is_shared = link is not None
        self._path_socket = path_socket
        self.metrics = Metrics()
        listeners = [log_event, *([listener] if listener else [])]
        self._manager = Manager(VersionLoader(settings.loading, self.metrics), settings.loading, listeners)
        self._repository = Repository(
            self._manager,
            models=settings.models,
            models_dir=settings.models_dir,
            poll_interval_s=settings.poll_interval_s,
        )
        self._reloader = Reloader(
            self._manager,
            self._repository,
            self.metrics,
            is_fixed=settings.models_dir is not None,
            unavailable_labels=settings.unavailable_labels,
            config_file=settings.config_file,
            poll_interval_s=settings.config_poll_interval_s,
        )
        self._runner = Runner(settings.worker_threads, self.metrics)
        self._recorder = make_recorder(settings.record, self.metrics)
        self._plane = DataPlane(
            self._manager,
            self._runner,
            self.metrics,
            check_method_names=settings.check_method_names,
            recorder=self._recorder,
        )
        self.metrics.versions.read = lambda: version_states(self._plane.models())
        self._closing = contextlib.ExitStack()
        self._loop: LoopThread | None = None
        self._grpc_socket: socket.socket | None = None
        self._rest_socket: socket.socket | None = None
        self._listeners = Listeners(
            settings,
            grpc_api=GrpcApi(
                self._plane,
                reload=link.reload if link else self._reloader.reload,
                typed_replies=settings.typed_replies,
            ),
            health=Health(self._manager),
            rest_api=RestApi(
                self._plane,
                timeout_s=settings.rest_timeout_s,
                monitoring=settings.monitoring,
                show_metrics=link.metrics if link else None,
            ),
        )

    @property
    def workers(self) -> int:
        """How many processes answer."""
        return 1

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on; 0 where it does not."""
        return self._listeners.grpc_port

    @property
    def rest_port(self) -> int:
        """The port that REST listens on; 0 where it does not."""
        return self._listeners.rest_port

    def models(self) -> dict[str, list[VersionStatus]]:
        """Give the state of every model's versions."""
        return self._plane.models()

    def configured(self) -> tuple[ModelConfig, ...]:
        """List the models that are to be served now."""
        return self._repository.models()

    def apply(self, models: Iterable[ModelConfig]) -> None:
        """Serve these models, and no others.

        Raises:
            ApiError: See `reload.Reloader.apply`.
        """
        self._reloader.apply(models)

    def start(self, cancelled: threading.Event | None = None, *, importing: Importing = contextlib.nullcontext) -> None:
        """Load the initial models, then listen.

        A model whose base path is missing or empty holds nobody up: it is served when it comes.

        Args:
            cancelled: Set by another thread, ends the wait for the models.
            importing: Makes a context inside which TensorFlow is imported.

        Raises:
            PortUnavailableError: A port is in use; nothing was loaded.
            BundleError: The ports file cannot be written.
            NotFound: The models directory has no model.
            Unknown: A configured model cannot be loaded; TensorFlow Serving's text.
            FailedPrecondition: A version label points at a version that is not AVAILABLE.
            StartCancelledError: `cancelled` was set.
        """
        self.load(cancelled, importing=importing)
        self.listen()

    def load(
        self,
        cancelled: threading.Event | None = None,
        *,
        importing: Importing = contextlib.nullcontext,
        is_lenient: bool = False,
    ) -> None:
        """Take the ports and load the initial models: the first half of `start`, with its arguments and errors.

        Args:
            cancelled: See `start`.
            importing: See `start`.
            is_lenient: Whether models and labels that cannot be served are logged and hold nobody up.
        """
        try:
            self._load(cancelled or threading.Event(), importing, is_lenient=is_lenient)
        except BaseException:
            self.stop(0.0)
            raise

    def listen(self) -> None:
        """Answer requests: the second half of `start`, with its errors."""
        try:
            self._listen()
        except BaseException:
            self.stop(0.0)
            raise

    def _load(self, cancelled: threading.Event, importing: Importing, *, is_lenient: bool) -> None:
        settings = self.settings
        if settings.models_dir is not None:
            check_models_dir(settings.models_dir)
        self._take_ports()
        self._recorder.start(is_lenient=is_lenient)
        freeze_tensorflow(importing)
        check_session_config(settings.loading)
        self._manager.start()
        self._repository.look_once()
        self._repository.start()
        self._await_models(self._repository.models(), cancelled, is_lenient=is_lenient)
        self._manager.end_of_start()

    def _listen(self) -> None:
        settings = self.settings
        self._reloader.start()
        self._loop = LoopThread()
        self._loop.run(self._listeners.open(self._grpc_socket, self._rest_socket, self._path_socket))
        if settings.ports_file is not None:
            write_ports(settings.ports_file, grpc=self.grpc_port, rest=self.rest_port)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Refuse new requests, let those under way finish, unload everything, end every thread.

        Args:
            grace_s: Seconds that requests under way may take; then they are cancelled.
        """
        self._reloader.stop()
        self._repository.stop()
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.run(self._listeners.close(grace_s))
        self._recorder.stop()
        self._closing.close()
        # A run that was cancelled goes on until TensorFlow is done with it; its version waits for that.
        if not self._manager.stop(max(grace_s, 1.0)):
            log.warning("a version is still in use and was not unloaded")
        self._runner.stop()
        if loop is not None:
            loop.stop()

    def _take_ports(self) -> None:
        """Bind the ports; who connects before the models are loaded is refused."""
        settings = self.settings
        # gRPC's own option for it works as well.
        is_shared = self._is_shared or bool(dict(settings.grpc_options).get("grpc.so_reuseport"))
        if settings.grpc_port is not None:
            self._grpc_socket = bind(settings.host, settings.grpc_port, "port", is_shared=is_shared)
            self._closing.callback(self._grpc_socket.close)
        if settings.rest_port is not None:
            host = settings.rest_host or settings.host
            self._rest_socket = bind(host, settings.rest_port, "rest_api_port", is_shared=self._is_shared)
            self._closing.callback(self._rest_socket.close)

    def _await_models(self, models: tuple[ModelConfig, ...], cancelled: threading.Event, *, is_lenient: bool) -> None:
        is_folder = self.settings.models_dir is not None
        said = ""
        while not self._manager.wait(
            lambda: all(self._has_settled(model, is_lenient=is_lenient or is_folder) for model in models),
            timeout_s=_SILENT_S,
            cancelled=cancelled,
        ):
            if cancelled.is_set():
                break
            awaited = self._say_awaited(models)
            if awaited and awaited != said:
                hint = "" if self.settings.unavailable_labels else f"; {_LABELS_FLAG} would not wait for one that fails"
                log.info("before listening, the server waits for %s%s", awaited, hint)
            said = awaited
        if cancelled.is_set():
            raise StartCancelledError("stopped before the models were loaded")
        failed = failed_models(self._manager, models)
        # A models directory is served as far as it can be; a configured model must be there.
        if failed and not is_lenient and (not is_folder or len(failed) == len(models)):
            raise Unknown(say_failed(failed, "servable"))
        for model in models:
            try:
                self._check_labels(model)
            except FailedPrecondition as error:
                if not is_lenient:
                    raise FailedPrecondition(f"{error.message}; to start without it, add {_LABELS_FLAG}") from error
                log.error("%s", error.message)
            self._manager.set_labels(model.name, model.labels)

    def _check_labels(self, model: ModelConfig) -> None:
        check_labels(
            model,
            now={},
            versions=available_versions(self._manager, model.name),
            allow_unavailable=self.settings.unavailable_labels,
        )

    def _has_settled(self, model: ModelConfig, *, is_lenient: bool) -> bool:
        if has_settled(self._manager, model.name):
            # Callers who name a label must not find a server that has opened and does not know what it means yet.
            return not self._awaited_labels(model)
        # The first failure is enough to go on where others are served meanwhile.
        return is_lenient and len(self._manager.failures(model.name)) == len(self._manager.status(model.name))

    def _say_awaited(self, models: Iterable[ModelConfig]) -> str:
        """Name the labelled versions that have neither answered nor failed for good; "" where there are none."""
        return ", ".join(
            f"{model.name} version {version} (label {label})"
            for model in models
            for label, version in self._awaited_labels(model).items()
        )

    def _awaited_labels(self, model: ModelConfig) -> dict[str, int]:
        must = bound_versions(model, now={}, allow_unavailable=self.settings.unavailable_labels)
        return awaited_labels(self._manager, model, must=must)


def freeze_tensorflow(importing: Importing = contextlib.nullcontext) -> None:
    """Import TensorFlow, inside the given context, and take what that made out of the garbage collector's sight.

    A full collection would walk some 300,000 objects and stop every request for 170 ms. Nothing of a model is frozen,
    so an unloaded version's graph can go.
    """
    with importing():
        from . import servable  # noqa: F401
    gc.collect()
    gc.freeze()


def check_session_config(settings: LoadSettings) -> None:
    """Say at start, and not with every load, that the text of the session's configuration is none.

    Raises:
        InvalidArgument: It is not.
    """
    from .servable_session import session_config

    session_config(settings)


def log_event(event: VersionEvent) -> None:
    """Log one line for each change of a version's state."""
    status = event.status
    if status.error_code:
        name, message = STATUS_NAMES[status.error_code], status.error_message
        log.error("%s version %d: %s: %s: %s", event.model, status.version, status.state.name, name, message)
    else:
        log.info("%s version %d: %s", event.model, status.version, status.state.name)

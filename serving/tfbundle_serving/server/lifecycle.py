"""The server from start to stop: models first, then ports; and back, requests first, then models."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from tfbundle_serving.apis.errors import STATUS_NAMES, BundleError, Unknown
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.config.models import ModelConfig

from .dataplane import DataPlane
from .grpc_api import GrpcApi
from .health import Health
from .listeners import Listeners
from .listening import bind, write_ports
from .loading import VersionLoader
from .loop_thread import LoopThread
from .manager import Manager, VersionEvent
from .metrics import Metrics
from .reload import Reloader
from .repository import Repository, check_models_dir
from .rest_api import RestApi
from .runner import Runner
from .settings import LoadSettings, ServerSettings
from .settled import available_versions, failed_models, has_settled, have_versions_settled, say_failed
from .version_labels import bound_versions, check_labels

log = logging.getLogger(__name__)

#: Makes a context, such as one that silences stderr.
Importing = Callable[[], AbstractContextManager[None]]

#: How long requests under way may take to finish once the server is asked to stop.
GRACE_S = 30.0


class StartCancelledError(BundleError):
    """The server was asked to stop before it had started."""


class Server:
    """The embedded server.

    Args:
        settings: What to serve, and how.
        listener: Called with every change of a version's state, quickly (see `Manager.listeners`).
    """

    def __init__(self, settings: ServerSettings, listener: Callable[[VersionEvent], None] | None = None) -> None:
        self.settings = settings
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
        self._plane = DataPlane(
            self._manager, self._runner, self.metrics, check_method_names=settings.check_method_names
        )
        self._closing = contextlib.ExitStack()
        self._loop: LoopThread | None = None
        self._listeners = Listeners(
            settings,
            grpc_api=GrpcApi(
                self._plane,
                reload=self._reloader.reload,
                typed_replies=settings.typed_replies,
                max_bytes=settings.max_request_bytes,
            ),
            health=Health(self._manager),
            rest_api=RestApi(
                self._plane,
                timeout_s=settings.rest_timeout_s,
                cors=settings.cors,
                monitoring=settings.monitoring,
            ),
        )

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

    def start(self, cancelled: threading.Event | None = None, *, importing: Importing = contextlib.nullcontext) -> None:
        """Load the initial models, then listen.

        A model whose base path is missing or empty holds nobody up: it is served when it comes.

        Args:
            cancelled: Set by another thread, ends the wait for the models.
            importing: Makes a context inside which TensorFlow is imported.

        Raises:
            PortUnavailableError: A port is in use; nothing was loaded.
            NotFound: The models directory has no model.
            Unknown: A configured model cannot be loaded; TensorFlow Serving's text.
            FailedPrecondition: A version label points at a version that is not AVAILABLE.
            StartCancelledError: `cancelled` was set.
        """
        try:
            self._start(cancelled or threading.Event(), importing)
        except BaseException:
            self.stop(0.0)
            raise

    def _start(self, cancelled: threading.Event, importing: Importing) -> None:
        settings = self.settings
        if settings.models_dir is not None:
            check_models_dir(settings.models_dir)
        rest_socket = self._take_ports()
        freeze_tensorflow(importing)
        check_session_config(settings.loading)
        self._manager.start()
        self._repository.look_once()
        self._repository.start()
        self._await_models(self._repository.models(), cancelled)
        self._manager.end_of_start()
        self._reloader.start()
        self._loop = LoopThread()
        self._loop.run(self._listeners.open(rest_socket))
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
        self._closing.close()
        # A run that was cancelled goes on until TensorFlow is done with it; its version waits for that.
        if not self._manager.stop(max(grace_s, 1.0)):
            log.warning("a version is still in use and was not unloaded")
        self._runner.stop()
        if loop is not None:
            loop.stop()

    def _take_ports(self) -> socket.socket | None:
        """Bind the REST port, and see whether the gRPC port could be."""
        settings = self.settings
        if settings.grpc_port:
            bind(settings.host, settings.grpc_port, "port").close()
        if settings.rest_port is None:
            return None
        rest_socket = bind(settings.host, settings.rest_port, "rest_api_port")
        self._closing.callback(rest_socket.close)
        return rest_socket

    def _await_models(self, models: tuple[ModelConfig, ...], cancelled: threading.Event) -> None:
        is_lenient = self.settings.models_dir is not None
        self._manager.wait(
            lambda: all(self._has_settled(model, is_lenient=is_lenient) for model in models), cancelled=cancelled
        )
        if cancelled.is_set():
            raise StartCancelledError("stopped before the models were loaded")
        failed = failed_models(self._manager, models)
        # A models directory is served as far as it can be; a configured model must be there.
        if failed and (not is_lenient or len(failed) == len(models)):
            raise Unknown(say_failed(failed, "servable"))
        for model in models:
            check_labels(
                model,
                now={},
                versions=available_versions(self._manager, model.name),
                allow_unavailable=self.settings.unavailable_labels,
            )
            self._manager.set_labels(model.name, model.labels)

    def _has_settled(self, model: ModelConfig, *, is_lenient: bool) -> bool:
        if has_settled(self._manager, model.name):
            # A label and its version may arrive in one config, so the version is waited for.
            return have_versions_settled(self._manager, model.name, self._bound_versions(model))
        # The first failure is enough to go on where others are served meanwhile.
        return is_lenient and len(self._manager.failures(model.name)) == len(self._manager.status(model.name))

    def _bound_versions(self, model: ModelConfig) -> list[int]:
        return bound_versions(model, now={}, allow_unavailable=self.settings.unavailable_labels)


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

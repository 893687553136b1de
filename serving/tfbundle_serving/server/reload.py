"""Another list of models for a running server, by HandleReloadConfigRequest or by a models.config that is polled.

The list replaces the one before as a whole. What can be refused is refused before anything changes; then labels, models
and policies change without a request that finds nothing, and the call returns once the new models and the labelled
versions have come as far as they will.

Source: tensorflow_serving/model_servers/model_service_impl.cc, server_core.cc (ReloadConfig).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfbundle_serving.apis.errors import ApiError, FailedPrecondition, Unavailable, Unknown
from tfbundle_serving.apis.reload_config import ReloadReply, ReloadRequest
from tfbundle_serving.config.models import ModelConfig, parse_models, read_models

from .manager import Manager
from .metrics import Metrics
from .repository import Repository, look
from .settled import available_versions, failed_models, has_settled, have_versions_settled, say_failed
from .version_labels import bound_versions, check_labels

log = logging.getLogger(__name__)


class Reloader:
    """Applies lists of models, one after the other.

    Args:
        manager: Owns the versions and their labels.
        repository: Is told the models.
        metrics: Knows the counters that a caller may ask for.
        is_fixed: Whether the models are those of a models directory, which no list can replace.
        unavailable_labels: Whether a new label may point at a version that is not AVAILABLE.
        config_file: The models.config to poll; None where there is none.
        poll_interval_s: How often; 0 = never.
    """

    def __init__(
        self,
        manager: Manager,
        repository: Repository,
        metrics: Metrics,
        *,
        is_fixed: bool = False,
        unavailable_labels: bool = False,
        config_file: Path | None = None,
        poll_interval_s: float = 0.0,
    ) -> None:
        self._manager = manager
        self._repository = repository
        self._metrics = metrics
        self._is_fixed = is_fixed
        self._unavailable_labels = unavailable_labels
        self._config_file = config_file
        self._interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        # A thread of its own: a reload waits for loads, and the threads that run models must not wait with it.
        self._calls = ThreadPoolExecutor(1, thread_name_prefix="reload")
        self._poller: threading.Thread | None = None
        self._trouble = ""

    def start(self) -> None:
        """Begin to read the file at intervals."""
        if self._config_file is not None and self._interval_s > 0:
            self._poller = threading.Thread(target=self._poll, name="config", daemon=True)
            self._poller.start()

    def stop(self) -> None:
        """End what waits, and accept nothing more."""
        self._stopped.set()
        self._calls.shutdown(cancel_futures=True)
        if self._poller is not None:
            self._poller.join()

    async def reload(self, request: ReloadRequest) -> ReloadReply:
        """Serve what a request asks for.

        Raises:
            ApiError: See `apply`; its config may also be none that can be served.
            DecodeError: Its config is no ModelServerConfig.
        """
        if self._stopped.is_set():
            raise Unavailable("the server is about to stop")
        before = {name: self._metrics.first_value(name) for name in request.metric_names}
        await asyncio.get_running_loop().run_in_executor(self._calls, self._apply_config, request.config)
        after = {name: self._metrics.first_value(name) - value for name, value in before.items()}
        return ReloadReply(metrics=after)

    def apply(self, models: Iterable[ModelConfig]) -> None:
        """Serve these models, and no others.

        Raises:
            FailedPrecondition: A label may not be assigned, or the models are those of a models directory.
            Unknown: A new model cannot be loaded.
            Unavailable: The server is about to stop.
        """
        with self._lock:
            self._apply(tuple(models))

    def _apply_config(self, config: bytes | None) -> None:
        try:
            with self._lock:
                self._apply(parse_models(config, served={model.name for model in self._repository.models()}))
        except ApiError as error:
            log.error("reload failed: %s: %s", error.status_name, error.message)
            raise

    def _apply(self, models: tuple[ModelConfig, ...]) -> None:
        if self._is_fixed:
            raise FailedPrecondition(
                "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
                "another. (This server serves a models directory.)"
            )
        before = self._repository.models()
        labels = {model.name: self._manager.labels(model.name) for model in models}
        for model in models:
            coming = look(model).versions or {}
            self._check_labels(model, labels[model.name], available_versions(self._manager, model.name) | set(coming))
        if models != before:
            log.info("models: %s", ", ".join(model.name for model in models) or "none")
        self._replace(before, models)

        known = {model.name for model in before}
        new = [model for model in models if model.name not in known]
        bound = {
            model.name: bound_versions(model, now=labels[model.name], allow_unavailable=self._unavailable_labels)
            for model in models
        }
        self._manager.wait(
            lambda: (
                all(has_settled(self._manager, model.name) for model in new)
                and all(have_versions_settled(self._manager, name, versions) for name, versions in bound.items())
            ),
            cancelled=self._stopped,
        )
        if self._stopped.is_set():
            raise Unavailable("the server is about to stop")
        self._give_up_labels(models, labels)
        failed = failed_models(self._manager, new)
        if failed:
            raise Unknown(say_failed(failed, "model"))
        for model in models:
            self._check_labels(model, labels[model.name], available_versions(self._manager, model.name))

    def _replace(self, before: tuple[ModelConfig, ...], models: tuple[ModelConfig, ...]) -> None:
        # Labels first: they wait for their versions, and a version that one is about to leave stays until then.
        for model in models:
            self._manager.set_labels(model.name, model.labels)
        self._repository.replace(models)
        for name in {model.name for model in before} - {model.name for model in models}:
            self._manager.set_labels(name, {})

    def _check_labels(self, model: ModelConfig, now: dict[str, int], versions: set[int]) -> None:
        check_labels(model, now=now, versions=versions, allow_unavailable=self._unavailable_labels)

    def _give_up_labels(self, models: Iterable[ModelConfig], before: dict[str, dict[str, int]]) -> None:
        """Forget labels whose versions failed to load; those that existed stay where they were."""
        if self._unavailable_labels:
            return
        for model in models:
            live = available_versions(self._manager, model.name)
            labels = self._manager.labels(model.name)
            if labels != model.labels or not live.issuperset(labels.values()):
                kept = {each: at for each, at in labels.items() if at in live or each in before[model.name]}
                self._manager.set_labels(model.name, kept)

    def _poll(self) -> None:
        while not self._stopped.wait(self._interval_s):
            trouble = self._read_file()
            # Said when it is new, not at every look.
            if trouble and trouble != self._trouble and not self._stopped.is_set():
                log.error("%s is not served: %s", self._config_file, trouble)
            self._trouble = trouble

    def _read_file(self) -> str:
        assert self._config_file is not None
        try:
            self.apply(read_models(self._config_file))
        except ApiError as error:
            return f"{error.status_name}: {error.message}"
        except Exception as error:  # the next look may succeed, and without looks the file counts no more
            log.exception("reading %s failed", self._config_file)
            return f"{type(error).__name__}: {error}"
        return ""

"""How the manager's loader makes a servable: load, then warm up. Imports TensorFlow when it is first used."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tfbundle_serving.apis.errors import ApiError
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from .logged_requests import run_logged
from .metrics import Metrics
from .settings import LoadSettings

if TYPE_CHECKING:
    from .servable import Servable

log = logging.getLogger(__name__)


class VersionLoader:
    """Loads versions and warms them up.

    Args:
        settings: Which meta graph, how many threads, whether and how to warm up.
        metrics: Counts loads and warm-ups.
    """

    def __init__(self, settings: LoadSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics

    def __call__(self, model: str, version: int, folder: Path) -> Servable:
        """Load one version.

        Raises:
            ApiError: It cannot be loaded or does not survive its warm-up.
        """
        from .servable import Servable

        begun = time.monotonic()
        try:
            servable = Servable(folder, self._settings, self._metrics.count_run)
        except ApiError:
            self._metrics.load_attempts.add(str(folder), "fail")
            raise
        self._metrics.load_attempts.add(str(folder), "success")
        self._metrics.load_latency.add(str(folder), amount=round((time.monotonic() - begun) * 1e6))
        # What has no such file is not counted as warmed up, either.
        if self._settings.warm_up and (folder / WARMUP_REQUESTS).exists():
            self._warm_up(model, version, folder, servable)
        return servable

    def _warm_up(self, model: str, version: int, folder: Path, servable: Servable) -> None:
        from .servable_warmup import replay

        begun = time.monotonic()
        status = "OK"
        try:
            count = replay(folder, partial(run_logged, servable), iterations=self._settings.warm_up_iterations)
        except ApiError as error:
            status = error.status_name
            servable.close()
            raise
        finally:
            self._metrics.warmup_latency.observe((time.monotonic() - begun) * 1e6, str(folder), status)
        self._metrics.warmup_records.add(str(folder), status, amount=count)
        log.info("%s version %d: %d warm-up requests in %.1f s", model, version, count, time.monotonic() - begun)

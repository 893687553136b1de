"""Looks at base paths and says which versions should be served.

Each model is looked at for itself: a base path that is missing leaves its model as it is and stops nobody else.

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.version_folder import find_versions, list_versions
from tfbundle_serving.apis.version_policy import Specific
from tfbundle_serving.config.models import ModelConfig

from .folder_stamp import folder_stamp
from .manager import Manager

log = logging.getLogger(__name__)

#: How TensorFlow's file systems spell the local one.
_FILE_SCHEME = "file://"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look at a model's base path gave.

    Attributes:
        versions: Version number to folder, as the model's policy chooses; None where the base path could not be read.
        trouble: What is wrong with the base path, for a person; "" where nothing is.
    """

    versions: Mapping[int, Path] | None
    trouble: str = ""


def look(model: ModelConfig) -> Sighting:
    """Look at a model's base path, a path or a file:// URI."""
    try:
        found = find_versions(model.base_path.removeprefix(_FILE_SCHEME))
    except OSError as error:
        return Sighting(
            None,
            f"Could not find base path {model.base_path} for servable {model.name} with error NOT_FOUND: "
            f"{error.strerror or error}",
        )
    if not found:
        return Sighting(
            {},
            f"No versions of servable {model.name} found under base path {model.base_path}. "
            "Did you forget to name your leaf directory as a number (eg. '/1/')?",
        )
    chosen = {version: found[version] for version in model.policy.choose(found)}
    return Sighting({version: paths[-1] for version, paths in chosen.items()}, _doubts(model, chosen))


def _doubts(model: ModelConfig, chosen: Mapping[int, Sequence[Path]]) -> str:
    """Say what may not be meant: versions that are asked for and not there, and numbers that several names mean."""
    said = [
        f"Version {version} of servable {model.name}, which was requested to be served as a 'specific' version in the "
        f"servable's version policy, was not found under base path {model.base_path}"
        for version in (model.policy.versions if isinstance(model.policy, Specific) else ())
        if version not in chosen
    ]
    said += [
        f"Under base path {model.base_path} {' and '.join(path.name for path in paths)} all mean version {version} of "
        f"servable {model.name}; {paths[-1].name} is served"
        for version, paths in chosen.items()
        if len(paths) > 1
    ]
    return "; ".join(said)


def list_models(folder: Path) -> tuple[ModelConfig, ...]:
    """List the models of a models directory: the folders in it that have at least one version folder.

    Raises:
        NotFound: The folder is missing.
    """
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise NotFound(f"models directory {folder}: {error.strerror or error}") from error
    return tuple(ModelConfig(name=child.name, base_path=str(child)) for child in children if _has_version(child))


def _has_version(folder: Path) -> bool:
    try:
        return any(path.is_dir() for path in list_versions(folder).values())
    except OSError:
        return False


def check_models_dir(folder: Path) -> None:
    """Refuse a models directory that has nothing to serve.

    Raises:
        NotFound: It is missing, empty, or a base path itself.
    """
    if list_models(folder):
        return
    if _has_version(folder):
        raise NotFound(
            f"{folder} holds versions, not models: serve {folder.parent}, "
            f"or --model_name={folder.name} --model_base_path={folder}"
        )
    raise NotFound(f"models directory {folder} has no model: expected {folder}/MODEL/1/saved_model.pb")


class Repository:
    """Keeps a manager's aspired versions in step with the disk.

    Args:
        manager: Is told which versions are aspired, and which failed ones have changed.
        models: The models by configuration.
        models_dir: Or the folder whose sub-folders are models.
        poll_interval_s: How often to look; 0 = once, by `look_once`.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        models: Sequence[ModelConfig] = (),
        models_dir: Path | None = None,
        poll_interval_s: float = 1.0,
    ) -> None:
        self._manager = manager
        self._configured = tuple(models)
        self._models_dir = models_dir
        self._interval_s = poll_interval_s
        self._troubles: dict[str, str] = {}
        self._seen: set[str] = set()
        # One look at a time: the thread's and those of a reload must not overtake each other.
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look at intervals."""
        if self._interval_s > 0:
            self._thread = threading.Thread(target=self._run, name="repository", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def models(self) -> tuple[ModelConfig, ...]:
        """List the models that are to be served now."""
        return self._configured if self._models_dir is None else list_models(self._models_dir)

    def replace(self, models: Sequence[ModelConfig]) -> None:
        """Serve other models from now on, and look at once."""
        with self._lock:
            self._configured = tuple(models)
            self.look_once()

    def look_once(self) -> None:
        """Look at every base path and tell the manager."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        try:
            models = self.models()
        except NotFound as error:
            self._complain("", error.message)
            return
        self._complain("", "")
        for model in models:
            sighting = look(model)
            self._complain(model.name, sighting.trouble)
            if sighting.versions is not None:
                self._manager.aspire(model.name, sighting.versions)
            self._retry_changed(model.name)
        # A folder that left the models directory takes its model along.
        now = {model.name for model in models}
        for gone in self._seen - now:
            self._manager.aspire(gone, {})
        self._seen = now

    def _retry_changed(self, model: str) -> None:
        for failure in self._manager.failures(model):
            if folder_stamp(failure.path) != failure.stamp:
                self._manager.retry(model, failure.version)

    def _complain(self, model: str, trouble: str) -> None:
        """Log a model's trouble when it is new, not at every look."""
        if trouble and self._troubles.get(model) != trouble:
            log.warning("%s", trouble)
        self._troubles[model] = trouble

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._look_safely()

    def _look_safely(self) -> None:
        try:
            self.look_once()
        except Exception:  # the next look may succeed, and without looks there are no more versions
            log.exception("looking at the base paths failed")

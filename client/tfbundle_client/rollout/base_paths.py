"""Where a model's versions are on this machine: the base path of a models.config may be that of a container."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfbundle_serving.apis.errors import RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel
from tfbundle_serving.apis.version_folder import SAVED_MODEL, list_versions

from .rules import Seen


def local_base_path(model: ConfiguredModel, given: Path | None = None) -> Path | None:
    """Name the folder of a model's versions here; None where it is on another machine.

    Args:
        model: The model.
        given: Where it is, if the user said so.

    Raises:
        RolloutError: There is no such folder.
    """
    if given is not None:
        if not given.is_dir():
            raise RolloutError(f"--base-path {given}: no such folder; nothing was changed")
        return given
    path = Path(model.base_path)
    # A folder whose parent is missing, too, is most likely a container's.
    return path if path.is_absolute() and path.parent.is_dir() else None


def look(models: Sequence[ConfiguredModel], model: str, given: Path | None = None) -> dict[str, Seen]:
    """See what is in the base paths of some models.

    Args:
        models: The models.
        model: The one that `given` is of. If its folder has the name that it has in the models.config, the others are
            looked for beside it.
        given: Where that one is here; None means where the models.config says.
    """
    moved = {each.name: _beside(each, models, model, given) for each in models}
    return {name: Seen() if path is None else _see(path) for name, path in moved.items()}


def _beside(each: ConfiguredModel, models: Sequence[ConfiguredModel], model: str, given: Path | None) -> Path | None:
    if each.name == model or given is None:
        return local_base_path(each, given if each.name == model else None)
    there = next((Path(other.base_path) for other in models if other.name == model), None)
    if there is None or there.name != given.resolve().name or Path(each.base_path).parent != there.parent:
        return None
    beside = given.resolve().parent / Path(each.base_path).name
    return beside if beside.is_dir() else None


def _see(path: Path) -> Seen:
    try:
        versions = list_versions(path)
    except OSError:
        return Seen(path=str(path))
    half = frozenset(number for number, folder in versions.items() if not (folder / SAVED_MODEL).is_file())
    return Seen(path=str(path), versions=frozenset(versions), half=half)

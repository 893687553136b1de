"""Where a model's versions are on this machine: the base path of a models.config may be that of a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfbundle_serving.apis.errors import RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel
from tfbundle_serving.apis.version_folder import SAVED_MODEL, list_versions

from .rules import Seen

#: Folders beside a base path that are looked into.
_NEIGHBOURS = 100


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


def neighbours(models: Sequence[ConfiguredModel], seen: Mapping[str, Seen]) -> frozenset[str]:
    """Name models that a server may have besides: base paths usually lie side by side, and are called as the model is.

    Args:
        models: The models that are known.
        seen: Model name to what is seen of its base path.
    """
    parents = {Path(there.path).parent for there in seen.values() if there.path}
    return frozenset[str]().union(*map(_base_paths_in, parents)) - {model.name for model in models}


def _base_paths_in(folder: Path) -> frozenset[str]:
    try:
        folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        return frozenset(each.name for each in folders[:_NEIGHBOURS] if list_versions(each))
    except OSError:  # nothing is said about what cannot be looked at
        return frozenset()


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

"""What a models.config needs of the place that it runs in: one folder to mount, versions to be there, memory.

base_path: "/models/digits"  base_path: "/models/iris"      one volume at /models, with digits/ and iris/ in it
specific { versions: 3 }  version_labels { "stable": 3 }    exactly version 3 has to be there
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.version_folder import list_versions
from tfbundle_serving.apis.version_policy import Latest, Specific
from tfbundle_serving.config.models import ModelConfig

#: Folders of a container that a volume must not hide, with what is there; below those of the first table neither.
_TAKEN_WHOLE = {"/tmp": "a /tmp of its own, which is empty at each start", "/config": "its configuration in /config"}
_TAKEN = {
    **_TAKEN_WHOLE,
    "/": "a file system of its own below /",
    **{
        folder: f"files of its own in {folder}"
        for folder in ("/usr", "/etc", "/bin", "/lib", "/proc", "/sys", "/dev", "/var", "/home", "/opt")
    },
}

#: What a path may be made of, so that it can stand in a command line and in YAML as it is.
_PLAIN_PATH = re.compile(r"/[\w./@+=~-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """The versions of a model, as far as they can be seen from here.

    Attributes:
        folder: Where its version folders are on this machine.
        sizes: Version number to bytes of its files.
    """

    folder: Path
    sizes: Mapping[int, int]


def mount_root(models: Sequence[ModelConfig]) -> str:
    """Find the folder at which one volume is mounted for all models: the one that all base paths have in common.

    Raises:
        InvalidArgument: There are no models, a base path is a URI, or they have no folder in common.
    """
    if not models:
        raise InvalidArgument("the configuration names no model, so there is nothing to deploy")
    for model in models:
        if not _PLAIN_PATH.fullmatch(model.base_path) or ".." in PurePosixPath(model.base_path).parts:
            raise InvalidArgument(
                f"model {model.name}: base_path {model.base_path} is no plain path below one folder such as /models; "
                "say with --models-from where the versions come from, and in base_path where Pods shall have them"
            )
        if not re.fullmatch(r"[\w.-]+", model.name):
            raise InvalidArgument(
                f"model {model.name!r}: a name with other letters than those of [A-Za-z0-9_.-] cannot stand in a URL"
            )
    root = os.path.commonpath([str(PurePosixPath(model.base_path).parent) for model in models])
    taken = next((top for top in _TAKEN_WHOLE if root.startswith(f"{top}/")), root)
    if taken in _TAKEN:
        listed = ", ".join(model.base_path for model in models)
        raise InvalidArgument(
            f"the base paths {listed} have the folder {root} in common, where no volume can be mounted: a container "
            f"has {_TAKEN[taken]}; write in base_path where the container shall have them, below one folder such as "
            f'/models (base_path: "/models/{models[0].name}"), and say with --models-dir where they are on this machine'
        )
    return root


def look(models: Sequence[ModelConfig], root: str, folder: Path | None) -> dict[str, OnDisk]:
    """Look at the version folders on this machine.

    Args:
        models: Which.
        root: The folder in the Pods that `folder` stands for.
        folder: Where the models' folders are here; None = at the very paths of the configuration.

    Returns:
        Model name to what was seen; without those whose folder is not here.
    """
    seen = {}
    for model in models:
        path = Path(model.base_path) if folder is None else folder / PurePosixPath(model.base_path).relative_to(root)
        try:
            versions = list_versions(path)
        except OSError:
            continue
        seen[model.name] = OnDisk(folder=path, sizes={number: _size(each) for number, each in versions.items()})
    return seen


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_against_disk(models: Sequence[ModelConfig], seen: Mapping[str, OnDisk]) -> None:
    """Refuse a configuration with which TensorFlow Serving would never open its ports.

    Raises:
        InvalidArgument: Its policy wants a version that is not there, or a label means one that is not served.
    """
    for model in models:
        if isinstance(model.policy, Specific):
            _check_labels(model, set(model.policy.versions))
        if model.name not in seen:
            continue
        there = seen[model.name].sizes
        listed = ", ".join(map(str, there)) or "none"
        if isinstance(model.policy, Specific) and (missing := set(model.policy.versions) - there.keys()):
            raise InvalidArgument(
                f"model {model.name}: version {min(missing)} is not in {seen[model.name].folder}, which has {listed}"
            )
        _check_labels(model, set(model.policy.choose(there)), where=str(seen[model.name].folder))


def _check_labels(model: ModelConfig, served: set[int], where: str = "") -> None:
    for label, version in model.labels.items():
        if version not in served:
            listed = ", ".join(map(str, sorted(served))) or "none"
            raise InvalidArgument(
                f"model {model.name}: the label {label} means version {version}, which is not among those that the "
                f"version policy serves{f' of {where}' if where else ''} ({listed})"
            )


def served_sizes(model: ModelConfig, seen: OnDisk) -> list[int]:
    """Give the bytes of each version that is served at once."""
    return [seen.sizes[number] for number in model.policy.choose(seen.sizes)]


def versions_to_pull(model: ModelConfig) -> list[int | None]:
    """Say which versions a Pod has to pull; None stands for the highest that there is when it starts.

    Raises:
        InvalidArgument: Which ones cannot be known before the Pod starts.
    """
    if isinstance(model.policy, Specific):
        return [*sorted(set(model.policy.versions))]
    if isinstance(model.policy, Latest) and max(model.policy.num_versions, 1) == 1 and not model.labels:
        return [None]
    raise InvalidArgument(
        f"model {model.name}: which versions Pods have to pull cannot be told from its version policy; name them: "
        "model_version_policy { specific { versions: 3 } }"
    )

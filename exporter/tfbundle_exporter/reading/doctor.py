"""`tfbundle doctor`: what is wrong in a models directory, before a server finds out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import list_versions, parse_version

from ..sources.places import is_saved_model
from .ailments import Ailment, command, error
from .base_path_checks import check_base_path
from .version_checks import check_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong in a models directory.

    Attributes:
        models_dir: The directory.
        models: Names of the models that were looked at.
        versions: How many versions they have.
        ailments: What is wrong, errors first.
    """

    models_dir: Path
    models: tuple[str, ...]
    versions: int
    ailments: tuple[Ailment, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether there is no error; warnings do no harm yet."""
        return all(ailment.severity != "error" for ailment in self.ailments)

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON values."""
        return {
            "models_dir": str(self.models_dir),
            "healthy": self.is_healthy,
            "models": list(self.models),
            "versions": self.versions,
            "ailments": [ailment.to_json() for ailment in self.ailments],
        }

    def to_text(self) -> str:
        """Give all of it for a person."""
        errors = sum(ailment.severity == "error" for ailment in self.ailments)
        head = (
            f"{self.models_dir}: {len(self.models)} model(s), {self.versions} version(s), "
            f"{errors} error(s), {len(self.ailments) - errors} warning(s)"
        )
        return "\n".join([head, *map(str, self.ailments)])


def examine(models_dir: str | os.PathLike[str]) -> Diagnosis:
    """Look for what is wrong in a models directory; nothing is loaded, executed or changed.

    Args:
        models_dir: The folder that holds the models' base paths, or one base path, or one version.

    Raises:
        ExportError: It is no folder.
        OSError: It cannot be read.
    """
    # Not resolved: remedies name things as the user does.
    root = Path(models_dir)
    if not root.is_dir():
        raise ExportError(
            f"{root} is no folder; expected the models directory, whose folders are the models' base paths"
        )
    if parse_version(root.resolve().name) is not None and is_saved_model(root):
        model = root.resolve().parent.name
        return _diagnosis(root, (model,), 1, check_version(root, model=model))
    bases = [root] if _is_base_path(root) else _children(root)
    ailments = [*_check_root(root), *(ailment for base in bases for ailment in check_base_path(base))]
    return _diagnosis(root, tuple(base.resolve().name for base in bases), sum(map(_count_versions, bases)), ailments)


def _diagnosis(root: Path, models: tuple[str, ...], versions: int, ailments: Iterable[Ailment]) -> Diagnosis:
    return Diagnosis(
        models_dir=root,
        models=models,
        versions=versions,
        ailments=tuple(sorted(ailments, key=lambda ailment: ailment.severity)),
    )


def _count_versions(base: Path) -> int:
    """Count versions; a folder that cannot be read, which is an ailment of its own, has none."""
    try:
        return len(list_versions(base))
    except PermissionError:
        return 0


def _is_base_path(folder: Path) -> bool:
    return is_saved_model(folder) or any(
        path.is_symlink() or not path.is_dir() or _holds_no_versions(path) for path in list_versions(folder).values()
    )


def _holds_no_versions(folder: Path) -> bool:
    """Tell a version folder from a base path that a model named like a number has."""
    return is_saved_model(folder) or not list_versions(folder)


def _children(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _check_root(root: Path) -> Iterator[Ailment]:
    for path in sorted(root.iterdir()):
        if path.is_symlink() and not path.exists():
            yield error(path, f"is a link to {path.readlink()}, which is not there", command("rm", path))

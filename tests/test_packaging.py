"""What the distribution promises: typed packages, faces that hand names on, one version."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import tfbundle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_packages_are_typed_and_their_folders_are_not_packages(package: Path) -> None:
    """Type checkers read our types, and `import client` or `import docker` never finds a folder of ours."""
    assert (package / "py.typed").exists()
    assert not (package.parent / "__init__.py").exists()


@pytest.mark.parametrize("name", ["tfbundle_client", "tfbundle_exporter"])
def test_faces_hand_on_what_they_list(name: str) -> None:
    """Every public name is there, listed once, in order."""
    face = importlib.import_module(name)
    assert face.__all__ == sorted(set(face.__all__))
    for public in face.__all__:
        assert getattr(face, public) is not None


def test_the_version_stands_in_one_place() -> None:
    """The package answers with the version that pyproject.toml states."""
    assert tfbundle.__version__ == PROJECT["project"]["version"]

"""Which of the versions on disk are to be served: the latest N, all, or some by number.

    model_version_policy { latest { num_versions: 2 } }
    model_version_policy { all {} }
    model_version_policy { specific { versions: 3 versions: 7 } }

Source: tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto (ServableVersionPolicy).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """Serve the highest version numbers.

    Attributes:
        num_versions: How many of them; 0 counts as 1, as in TensorFlow Serving.
    """

    num_versions: int = 1

    def choose(self, found: Iterable[int]) -> list[int]:
        """Pick from the versions on disk, lowest first."""
        return sorted(found)[-max(self.num_versions, 1) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class All:
    """Serve every version."""

    def choose(self, found: Iterable[int]) -> list[int]:
        """Pick from the versions on disk, lowest first."""
        return sorted(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Specific:
    """Serve some versions by number.

    Attributes:
        versions: The numbers; those that are not on disk wait until they are.
    """

    versions: tuple[int, ...]

    def choose(self, found: Iterable[int]) -> list[int]:
        """Pick from the versions on disk, lowest first."""
        return sorted(set(found) & set(self.versions))


VersionPolicy = Latest | All | Specific

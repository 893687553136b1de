"""Names of a version's files: which of them are refused, and in which order they travel.

A store has no rename that would make a folder appear at once, and a server may look at any moment. TensorFlow Serving
tells a version by saved_model.pb: without it the load fails and is tried again, without variables.index it succeeds
with a model that has no weights. So the graph comes last. metadata.json comes first: servers look past it, and another
push of the same number sees at once for which model the number stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA

from ..sources.places import GRAPHS

#: First comes first; a name goes with the first pattern that it matches.
_ORDER = tuple(
    re.compile(pattern)
    for pattern in (
        re.escape(METADATA),
        r"variables/(?!.*\.index$).*",
        r"variables/.*",
        r"assets/.*",
        r"assets\.extra/.*",
        rf"(?!({'|'.join(map(re.escape, GRAPHS))})$).*",
        r".*",
    )
)


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse names that would lead out of the folder, or that cannot all be files of one folder.

    Args:
        names: Relative to the version folder, with "/" between parts; from a listing or from metadata.json.
        where: Who says so, for the message.

    Raises:
        ExportError: One is absolute, has ".." or "." or nothing between two slashes, has a backslash or a character
            that does not print, or is a file and a folder at once.
    """
    known = set(names)
    for name in sorted(known):
        parts = name.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or not name.isprintable():
            raise ExportError(
                f"{where} names a file {name!r}, which is no path inside a version folder; nothing was taken from there"
            )
        both = next((parent for parent in _parents(parts) if parent in known), None)
        if both is not None:
            raise ExportError(f"{where} has {both!r} both as a file and as a folder (of {name!r}); nothing was taken")


def _parents(parts: list[str]) -> Iterable[str]:
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def upload_order(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Group names so that a group may travel together once the one before it is there.

    metadata.json, weights, their index, assets, what else there is, and the graph at the very end.
    """
    groups: list[list[str]] = [[] for _ in _ORDER]
    for name in sorted(names):
        groups[next(place for place, pattern in enumerate(_ORDER) if pattern.fullmatch(name))].append(name)
    return tuple(tuple(group) for group in groups if group)

"""What a version folder must hold, as its metadata.json says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA

from ..sources.places import GRAPHS
from .names import check_names

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a version.

    Attributes:
        text: metadata.json itself.
        files: SHA-256 of every other file, by its name relative to the version folder.
        number: The number that it was given; None where it does not say.
        tag: Its tag; "" where it has none.
        model: The name of its model; "" where it does not say.
    """

    text: bytes
    files: Mapping[str, str]
    number: int | None
    tag: str
    model: str


def read_manifest(text: bytes, where: str) -> Manifest:
    """Read a metadata.json that comes from elsewhere.

    Args:
        text: Its content.
        where: Where it is from, for messages.

    Raises:
        ExportError: It is not whole, records no hashes, no graph, or a name that leads out of the folder.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{where} is not JSON ({error}); was it cut off on its way?") from error
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise ExportError(f"{where} records no files, so that there is nothing to hold the version against")
    for name, digest in files.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ExportError(f"{where} gives {name!r} the hash {digest!r:.80}; expected a SHA-256 in hex")
    check_names([*files, METADATA], where)
    if set(files).isdisjoint(GRAPHS) or METADATA in files:
        raise ExportError(f"{where} is not that of a version: expected hashes of {GRAPHS[0]} and of all but itself")
    number, tag, model = content.get("version"), content.get("tag"), content.get("model_name")
    return Manifest(
        text=text,
        files=files,
        number=number if isinstance(number, int) and not isinstance(number, bool) else None,
        tag=tag if isinstance(tag, str) else "",
        model=model if isinstance(model, str) else "",
    )

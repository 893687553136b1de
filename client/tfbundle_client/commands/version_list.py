"""The versions of a model: what their folders say, and what a server makes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.errors import DecodeError, NotFound
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.version_folder import list_versions, read_metadata

from ..client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a model.

    Attributes:
        number: Its number.
        tag: Its tag; None where it has none.
        created_at: When it was exported, in UTC; None where its folder does not say.
        source: Name of the file or model that it was made from; None where its folder does not say.
        max_abs_diff: Largest difference from its source when it was exported; None where its folder does not say.
        is_there: Whether it has a folder; a server may still serve one whose folder is gone.
        state: Its state on the server; None where no server was asked, "" where the server does not know it.
        trouble: Why its metadata.json cannot be read, or why the server failed to load it; "" where neither.
    """

    number: int
    tag: str | None = None
    created_at: str | None = None
    source: str | None = None
    max_abs_diff: float | None = None
    is_there: bool = True
    state: str | None = None
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "version": self.number,
            "tag": self.tag,
            "created_at": self.created_at,
            "source": self.source,
            "max_abs_diff": self.max_abs_diff,
            "is_there": self.is_there,
            "state": self.state,
            "trouble": self.trouble,
        }


def read_versions(
    base_path: str | os.PathLike[str], client: Client | None = None, model: str = ""
) -> tuple[Version, ...]:
    """List the versions of a model, lowest first.

    Args:
        base_path: The folder of the model's versions.
        client: Asked for their states; None asks nobody.
        model: What the server calls the model.

    Raises:
        ApiError: The server cannot be asked; that it does not know the model is no error.
        OSError: The base path is missing or cannot be read.
    """
    folders = list_versions(base_path)
    states = {} if client is None else _states(client, model)
    versions = []
    for number in sorted(folders.keys() | states.keys()):
        status = states.get(number)
        told = _told(folders[number]) if number in folders else {}
        state = None if client is None else "" if status is None else status.state.name
        trouble = str(told.pop("trouble", "")) or ("" if status is None else status.error_message)
        versions.append(Version(number=number, is_there=number in folders, state=state, trouble=trouble, **told))
    return tuple(versions)


def _states(client: Client, model: str) -> Mapping[int, VersionStatus]:
    try:
        return {status.version: status for status in client.status(model)}
    except NotFound:
        return {}


def _told(folder: os.PathLike[str]) -> dict[str, Any]:
    """Read what a version's metadata.json says of it."""
    try:
        metadata = read_metadata(folder) or {}
    except (DecodeError, OSError) as error:
        return {"trouble": str(error)}
    source, parity = (metadata.get(part) for part in ("source", "parity"))
    return {
        "tag": metadata.get("tag"),
        "created_at": metadata.get("created_at"),
        "source": source.get("name") if isinstance(source, dict) else None,
        "max_abs_diff": parity.get("max_abs_diff") if isinstance(parity, dict) else None,
    }

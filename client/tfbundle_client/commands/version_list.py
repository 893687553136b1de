"""The versions of a model: what their folders say, and what servers and a models.config make of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import DecodeError, InvalidArgument, NotFound, Unavailable
from tfbundle_serving.apis.fingerprint import read_fingerprint
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.version_folder import SAVED_MODEL, list_versions, read_metadata

from ..client import Client
from ..rollout.folder_size import folder_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a model.

    Attributes:
        number: Its number.
        tag: Its tag; None where it has none.
        created_at: When it was exported, in UTC; None where its folder does not say.
        source: Name of the file or model that it was made from; None where its folder does not say.
        max_abs_diff: Largest difference from its source when it was exported; None where its folder does not say.
        bytes: Size of its folder; None where it has none.
        same_graph: Whether it computes by the same graph as the version before, with other weights at most; None where
            there is none before, or nobody can tell.
        is_there: Whether it has a folder; a server may still serve one whose folder is gone.
        state: Its state on the first server; None where no server was asked, "" where the server does not know it.
        states: Address to state on each server that was asked.
        labels: The labels that the models.config gives it.
        trouble: Why its metadata.json cannot be read, why a server failed to load it, or which server has a label
            elsewhere; "" where nothing is wrong.
    """

    number: int
    tag: str | None = None
    created_at: str | None = None
    source: str | None = None
    max_abs_diff: float | None = None
    bytes: int | None = None
    same_graph: bool | None = None
    is_there: bool = True
    state: str | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    trouble: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "version": self.number,
            "tag": self.tag,
            "created_at": self.created_at,
            "bytes": self.bytes,
            "source": self.source,
            "max_abs_diff": self.max_abs_diff,
            "same_graph": self.same_graph,
            "is_there": self.is_there,
            "state": self.state,
            "states": dict(self.states),
            "labels": list(self.labels),
            "trouble": self.trouble,
        }


def read_versions(
    base_path: str | os.PathLike[str],
    clients: Client | Sequence[Client] | None = None,
    model: str = "",
    *,
    labels: Mapping[str, int] | None = None,
) -> tuple[Version, ...]:
    """List the versions of a model, lowest first.

    Args:
        base_path: The folder of the model's versions.
        clients: Asked for their states, one for each server; None asks nobody.
        model: What the servers call the model.
        labels: Version label to version, as a models.config says; the servers are asked whether they know it, too.

    Raises:
        ApiError: A server cannot be asked; that it does not know the model is no error.
        OSError: The base path is missing or cannot be read.
    """
    asked = [clients] if isinstance(clients, Client) else list(clients or ())
    folders = list_versions(base_path)
    states = {client.url: _states(client, model) for client in asked}
    given = dict(labels or {})
    elsewhere = _elsewhere(asked, model, given)
    known = folders.keys() | set[int]().union(*states.values()) | set(given.values())
    versions: list[Version] = []
    graph_before: str | None = None
    for number in sorted(known):
        folder = folders.get(number)
        told = {} if folder is None else _told(folder)
        troubles = [str(told.pop("trouble", ""))]
        graph = None if folder is None else _graph(folder)
        here = {url: each[number].state.name if number in each else "" for url, each in states.items()}
        troubles += dict.fromkeys(each[number].error_message for each in states.values() if number in each)
        troubles += elsewhere.get(number, ())
        versions.append(
            Version(
                number=number,
                bytes=None if folder is None else folder_size(folder),
                same_graph=None if graph is None or graph_before is None else graph == graph_before,
                is_there=folder is not None,
                state=next(iter(here.values()), None),
                states=here,
                labels=tuple(sorted(label for label, version in given.items() if version == number)),
                trouble="; ".join(filter(None, troubles)),
                **told,
            )
        )
        graph_before = graph if folder is not None else graph_before
    return tuple(versions)


def _states(client: Client, model: str) -> Mapping[int, VersionStatus]:
    try:
        return {status.version: status for status in client.status(model)}
    except NotFound:
        return {}


def _elsewhere(clients: Sequence[Client], model: str, labels: Mapping[str, int]) -> Mapping[int, list[str]]:
    """Name the labels that mean another version at a server than in the models.config."""
    found: dict[int, list[str]] = {}
    for client in clients:
        for label, number in sorted(labels.items()):
            try:
                there: int | None = client.metadata(model, label=label).version
            except (InvalidArgument, NotFound, Unavailable):
                there = None
            if there != number:
                what = "nothing" if there is None else f"version {there}"
                found.setdefault(number, []).append(f"label {label} means {what} at {client.url}")
    return found


def _told(folder: Path) -> dict[str, Any]:
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


def _graph(folder: Path) -> str | None:
    """Give what is the same for two versions of one graph, whatever their weights: TensorFlow's hashes of the graph and
    of the objects behind it, or, in folders older than those, the hash of the whole saved_model.pb.
    """
    try:
        fingerprint = read_fingerprint(folder)
        if fingerprint is not None:
            return f"{fingerprint.graph}/{fingerprint.objects}"
        graph = (folder / SAVED_MODEL).read_bytes()
        return hashlib.sha256(graph).hexdigest() if graph else None
    except (DecodeError, OSError):
        return None

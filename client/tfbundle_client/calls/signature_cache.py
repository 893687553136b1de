"""The signatures that the client has seen, by what was asked for: a version, a label, or the latest."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec

_Key = tuple[str, int | None, str | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    metadata: ModelMetadata
    seen_at_s: float


class SignatureCache:
    """Metadata by model and version, label or neither; safe across threads, because each step is one dict operation."""

    def __init__(self) -> None:
        self._entries: dict[_Key, _Entry] = {}

    def get(self, spec: ModelSpec, max_age_s: float | None = None) -> ModelMetadata | None:
        """Find what was last seen for a spec, if it was seen at most that many seconds ago."""
        entry = self._entries.get(_key(spec))
        if entry is None or (max_age_s is not None and time.monotonic() - entry.seen_at_s > max_age_s):
            return None
        return entry.metadata

    def put(self, spec: ModelSpec, metadata: ModelMetadata, seen_at_s: float) -> None:
        """Keep what a server said.

        Args:
            spec: What it was asked for.
            metadata: What it said.
            seen_at_s: When it was asked, on the clock of `time.monotonic`: what it said was true then or later.
        """
        self._entries[_key(spec)] = _Entry(metadata, seen_at_s)

    def drop(self, spec: ModelSpec) -> None:
        """Forget a spec that turned out to mean something else by now."""
        self._entries.pop(_key(spec), None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def drop_model(self, model: str) -> None:
        """Forget what the latest version and the labels of a model are; single versions stay what they are."""
        for key in list(self._entries):
            if key[0] == model and key[1] is None:
                self._entries.pop(key, None)


def _key(spec: ModelSpec) -> _Key:
    return spec.name, spec.version, spec.label

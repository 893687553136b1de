"""From a request's model spec to the version that answers it: immutable tables, replaced as a whole.

A request reads one table without a lock, so it sees the state before a change or after it, never between.

Source: tensorflow_serving/model_servers/server_core.cc (ServableRequestFromModelSpec).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.apis.model_spec import ModelSpec

from .live_version import LiveVersion


@dataclass(frozen=True, slots=True)
class Routes:
    """Which versions answer.

    Attributes:
        versions: Model name to version number to live version.
        latest: Model name to its highest live version.
        labels: Model name to version label to version number.
    """

    versions: Mapping[str, Mapping[int, LiveVersion]] = field(default_factory=dict)
    latest: Mapping[str, LiveVersion] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def find(self, spec: ModelSpec) -> LiveVersion:
        """Find the version that a spec means.

        Raises:
            InvalidArgument: The spec has no name, or its label is unknown.
            NotFound: No such version is live.
        """
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        version = spec.version
        if spec.label is not None:
            version = self.labels.get(spec.name, {}).get(spec.label)
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {spec.label}", model=spec.name)
        if version is None:
            live = self.latest.get(spec.name)
            wanted = f"Latest({spec.name})"
        else:
            live = self.versions.get(spec.name, {}).get(version)
            wanted = f"Specific({spec.name}, {version})"
        if live is None:
            raise NotFound(f"Servable not found for request: {wanted}", model=spec.name, version=version)
        return live

    def with_version(self, live: LiveVersion) -> Routes:
        """Add a version."""
        return self._with(live.model, {**self.versions.get(live.model, {}), live.version: live})

    def without_version(self, live: LiveVersion) -> Routes:
        """Take a version away."""
        left = {number: each for number, each in self.versions.get(live.model, {}).items() if each is not live}
        return self._with(live.model, left)

    def with_labels(self, model: str, labels: Mapping[str, int]) -> Routes:
        """Replace the labels of a model."""
        return replace(self, labels={**self.labels, model: dict(labels)})

    def _with(self, model: str, versions: Mapping[int, LiveVersion]) -> Routes:
        latest = {name: live for name, live in self.latest.items() if name != model}
        if versions:
            latest[model] = versions[max(versions)]
        return replace(self, versions={**self.versions, model: versions}, latest=latest)

"""Whether models have come as far as they will: what a start and a reload wait for, and what they say then."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from tfbundle_serving.apis.errors import STATUS_NAMES
from tfbundle_serving.apis.model_status import State
from tfbundle_serving.config.models import ModelConfig

from .manager import Manager

#: Model name to version number to the error that kept it from being loaded.
Failed = Mapping[str, Mapping[int, str]]


def available_versions(manager: Manager, model: str) -> set[int]:
    """List the versions of a model that answer requests."""
    return {status.version for status in manager.status(model) if status.is_available}


def has_settled(manager: Manager, model: str) -> bool:
    """Tell whether one version of a model answers, or none will; so it is for a model without versions."""
    statuses = manager.status(model)
    return any(status.is_available for status in statuses) or all(status.state is State.END for status in statuses)


def have_versions_settled(manager: Manager, model: str, versions: Iterable[int]) -> bool:
    """Tell whether each of these versions answers or will not come."""
    states = {status.version: status.state for status in manager.status(model)}
    return all(states.get(version, State.END) in (State.AVAILABLE, State.END) for version in versions)


def awaited_labels(manager: Manager, model: ModelConfig, *, must: Container[int]) -> dict[str, int]:
    """Find the labels whose versions neither answer nor are given up, with these versions.

    Args:
        manager: Loads them.
        model: The model with its labels.
        must: Versions without which the labels are refused: all their tries are waited for. Any other may fail once.
    """
    failed = {failure.version for failure in manager.failures(model.name)}
    return {
        label: version
        for label, version in model.labels.items()
        if not (version in failed and version not in must) and not have_versions_settled(manager, model.name, [version])
    }


def failed_models(manager: Manager, models: Iterable[ModelConfig]) -> Failed:
    """Find the models of which versions failed to load and none answers."""
    found = {}
    for model in models:
        failures = {
            failure.version: f"{STATUS_NAMES[failure.error.code]}: {failure.error.message}"
            for failure in manager.failures(model.name)
        }
        if failures and not available_versions(manager, model.name):
            found[model.name] = failures
    return found


def say_failed(failed: Failed, noun: str) -> str:
    """Write what failed as TensorFlow Serving does.

    Args:
        failed: At least one version.
        noun: "servable" at start, "model" in a reload.
    """
    texts = [
        f"{{name: {model} version: {version}}} due to error: {text}}}, "
        for model, failures in failed.items()
        for version, text in failures.items()
    ]
    return f"{len(texts)} {noun}(s) did not become available: {{{''.join(texts)}}}"

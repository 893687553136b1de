"""Which versions stay loaded, and why: what a command says at its end and in a dry run; functions that only compute."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

from tfbundle_serving.apis.models_config_edit import ConfiguredModel

from .server import LIVE, States

#: The label that callers name; nobody gives it up.
STABLE = "stable"


def reasons(
    labels: Mapping[str, int],
    loaded: Sequence[int] | None,
    kept: Sequence[int] = (),
    missing: Collection[int] = (),
) -> dict[int, tuple[str, ...]]:
    """Say what keeps each version loaded, the highest first.

    Args:
        labels: Version label to version.
        loaded: Versions that the models.config loads; None where it leaves that to the folder.
        kept: Those that are kept to go back to.
        missing: Those that no server has, whatever the models.config says.
    """
    found = {}
    for version in sorted(set(labels.values() if loaded is None else loaded).difference(missing), reverse=True):
        said = [f"label {label}" for label, number in sorted(labels.items()) if number == version]
        if version in kept:
            said.append("kept to go back to")
        found[version] = tuple(said or ["the models.config lists it"])
    return found


def missing_at(versions: Iterable[int], states: Mapping[str, States]) -> dict[int, str]:
    """Find versions that no server has loaded or loads, each with why, in the words of a message.

    Args:
        versions: Those that are looked for.
        states: Address to the states of the model's versions.
    """
    found = {version: {url: each.get(version) for url, each in states.items()} for version in versions}
    return {
        version: ", ".join(
            f"{'not known' if status is None else status.state.name} at {url}" for url, status in sorted(at.items())
        )
        for version, at in found.items()
        if not any(status is not None and status.state in LIVE for status in at.values())
    }


def say_loaded(
    model: ConfiguredModel,
    loaded: Sequence[int] | None,
    kept: Sequence[int] = (),
    missing: Mapping[int, str] | None = None,
) -> str:
    """Say in one line which versions of a model stay loaded, and why.

    Args:
        model: The model as it is configured then.
        loaded: Versions that the models.config loads; None where it leaves that to the folder.
        kept: Those that are kept to go back to.
        missing: Those that no server has, and why.
    """
    absent = missing or {}
    each = _list(reasons(model.labels, loaded, kept, absent))
    wanted = {
        version: (*said, absent[version])
        for version, said in reasons(model.labels, loaded, kept).items()
        if version in absent
    }
    tail = f"; not loaded, though the models.config asks for it: {_list(wanted)}" if wanted else ""
    if loaded is None:
        rest = "whatever else its policy takes from the folder"
        return f"loaded: {f'{each}, and ' if each else ''}{rest}{tail}"
    return f"loaded: {each or 'none'}{tail}"


def _list(versions: Mapping[int, Sequence[str]]) -> str:
    return ", ".join(f"{version} ({', '.join(said)})" for version, said in versions.items())


def say_held(model: str, version: int, labels: Mapping[str, int], *, is_highest: bool) -> str | None:
    """Say why a version does not leave though it should; None where no label holds it.

    Args:
        model: Model name.
        version: The version.
        labels: Version label to version, as they are then.
        is_highest: Whether callers without a label reach it.
    """
    holding = sorted(label for label, number in labels.items() if number == version)
    if not holding:
        return None
    unlabelled = " and callers without a label reach it, as the highest" if is_highest else ""
    dropping = "; ".join(f"`{say_drop(model, label)}`" for label in holding if label != STABLE)
    remedy = f"; {dropping} takes that label away and unloads it" if dropping and STABLE not in holding else ""
    named = f"label{'s' if len(holding) > 1 else ''} {', '.join(holding)}"
    verb = "mean" if len(holding) > 1 else "means"
    return f"version {version} stays loaded: {named} {verb} it{unlabelled}{remedy}"


def say_drop(model: str, label: str, options: Sequence[str] = ()) -> str:
    """Give the line that takes a label away, and lets go what only it needs.

    Args:
        model: Model name.
        label: The label.
        options: Further words: servers, models.config.
    """
    which = [] if label == "canary" else ["--canary-label", label]
    return shlex.join(["tfbundle", "canary", model, "--drop", *which]) + (
        f" {shlex.join(options)}" if options else " --server ..."
    )

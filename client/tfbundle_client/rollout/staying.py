"""Which versions stay loaded, and why: what a command says at its end and in a dry run; functions that only compute."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from tfbundle_serving.apis.models_config_edit import ConfiguredModel

#: The label that callers name; nobody gives it up.
STABLE = "stable"


def reasons(
    labels: Mapping[str, int], loaded: Sequence[int] | None, kept: Sequence[int] = ()
) -> dict[int, tuple[str, ...]]:
    """Say what keeps each version loaded, the highest first.

    Args:
        labels: Version label to version.
        loaded: Versions that the models.config loads; None where it leaves that to the folder.
        kept: Those that are kept to go back to.
    """
    found = {}
    for version in sorted(labels.values() if loaded is None else loaded, reverse=True):
        said = [f"label {label}" for label, number in sorted(labels.items()) if number == version]
        if version in kept:
            said.append("kept to go back to")
        found[version] = tuple(said or ["the models.config lists it"])
    return found


def say_loaded(model: ConfiguredModel, loaded: Sequence[int] | None, kept: Sequence[int] = ()) -> str:
    """Say in one line which versions of a model stay loaded, and why.

    Args:
        model: The model as it is configured then.
        loaded: Versions that the models.config loads; None where it leaves that to the folder.
        kept: Those that are kept to go back to.
    """
    each = ", ".join(f"{version} ({', '.join(said)})" for version, said in reasons(model.labels, loaded, kept).items())
    if loaded is None:
        rest = "whatever else its policy takes from the folder"
        return f"loaded: {f'{each}, and ' if each else ''}{rest}"
    return f"loaded: {each}"


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

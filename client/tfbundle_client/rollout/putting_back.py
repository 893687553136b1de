"""File and servers as they were before a change that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError, FailedPrecondition, InvalidArgument, RolloutError, Unimplemented

from .config_file import ConfigFile
from .fleet import Fleet, say_failures
from .sending import send_list

#: Seconds within which a label has moved once its version is AVAILABLE.
LABEL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What there was.

    Attributes:
        model: The model whose label was to change.
        label: The label.
        content: The models.config.
        texts: Address to the list that leaves every label where it was there.
        labelled: Address to the version that the label meant there; None where there was none.
        timeout_s: Seconds for a reload.
    """

    model: str
    label: str
    content: bytes
    texts: Mapping[str, str]
    labelled: Mapping[str, int | None]
    timeout_s: float


def put_back(
    config: ConfigFile, fleet: Fleet, before: Before, refused: Mapping[str, BundleError] | None = None
) -> tuple[str, ...]:
    """Put everything back.

    Args:
        config: The models.config.
        fleet: The servers.
        before: What there was.
        refused: Address to why it took no list to begin with.

    Returns:
        What could not be put back, in the words of a message.
    """
    trouble = []
    # The file first: a server that restarts now must not read what was refused.
    try:
        if config.content != before.content:
            config.replace(before.content)
    except (RolloutError, OSError) as error:
        trouble.append(f"{config.path}: {error}")
    failures = send_list(fleet, before.texts, timeout_s=before.timeout_s).failures
    # A server that refused the first list, and this one for the same reason, has taken none.
    failures = {url: each for url, each in failures.items() if not _is_refusal(each, (refused or {}).get(url))}
    trouble += [
        f"{say_failures({url: error})} (a server reads the file when it starts)"
        for url, error in sorted(failures.items())
    ]
    if not failures:
        try:
            fleet.wait_labelled(before.model, before.label, before.labelled, timeout_s=LABEL_S)
        except RolloutError as error:
            trouble.append(str(error))
    return tuple(trouble)


def say_put_back(path: Path, trouble: tuple[str, ...]) -> str:
    """Say in one clause whether everything is as it was."""
    if not trouble:
        return f"{path} and every server are as before"
    return f"NOT put back: {'; '.join(trouble)}; everything else is as before"


def _is_refusal(error: BundleError, before: BundleError | None) -> bool:
    refusals = (FailedPrecondition, InvalidArgument, Unimplemented)
    return isinstance(error.__cause__ or error, refusals) and str(error) == str(before)

"""Which versions of a base path may go: those for which nothing speaks.

What speaks for a version is gathered from everybody who may need it, and each says it in words of its own. A server
that has a version loaded would unload it once its folder is gone, so that one stays whatever else is known of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.models_config_edit import ConfiguredModel
from tfbundle_serving.apis.version_folder import SAVED_MODEL, find_versions
from tfbundle_serving.apis.version_policy import All, Specific

from ..rollout.history import Record

#: Version number to what speaks for it.
Reasons = Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """A version in a base path.

    Attributes:
        number: Its number.
        folder: Its folder; the one that servers take, where several names mean the number.
        trouble: Why it is not for a program to move; "" where nothing is.
    """

    number: int
    folder: Path
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a version.

    Attributes:
        version: It.
        reasons: What speaks for it; where nothing does, it goes.
    """

    version: OnDisk
    reasons: tuple[str, ...]

    @property
    def goes(self) -> bool:
        """Whether it is pruned."""
        return not self.reasons


def look(base: Path) -> tuple[OnDisk, ...]:
    """List the versions of a base path, lowest first.

    Raises:
        OSError: It is missing or cannot be read.
    """
    return tuple(_look(number, paths) for number, paths in find_versions(base).items())


def _look(number: int, paths: Sequence[Path]) -> OnDisk:
    trouble = ""
    if len(paths) > 1:
        trouble = f"{' and '.join(path.name for path in paths)} are both version {number}: see tfbundle doctor"
    elif number <= 0:
        trouble = "no number of tfbundle's"
    elif not any((paths[-1] / name).is_file() for name in (SAVED_MODEL, "saved_model.pbtxt")):
        trouble = f"no {SAVED_MODEL}: it may be on its way, or see tfbundle doctor"
    return OnDisk(number=number, folder=paths[-1], trouble=trouble)


def choose(versions: Sequence[OnDisk], *, keep: int, reasons: Iterable[Reasons]) -> tuple[Verdict, ...]:
    """Decide over each version.

    Args:
        versions: Those that there are.
        keep: How many of the highest stay in any case; those that are not whole do not count.
        reasons: What speaks for which, by everybody who was asked.

    Returns:
        One verdict each, lowest version first.
    """
    ordered = sorted(versions, key=lambda version: version.number)
    newest = {version.number for version in [each for each in ordered if not each.trouble][-keep:]}
    spoken: defaultdict[int, list[str]] = defaultdict(list)
    for version in ordered:
        if version.trouble:
            spoken[version.number].append(version.trouble)
        if version.number in newest:
            spoken[version.number].append("newest" if version.number == max(newest) else f"one of the newest {keep}")
    for each in reasons:
        for number, words in each.items():
            spoken[number] += words
    return tuple(Verdict(version=version, reasons=tuple(dict.fromkeys(spoken[version.number]))) for version in ordered)


def configured_for(models: Sequence[ConfiguredModel], model: str, base: Path) -> tuple[ConfiguredModel, ...]:
    """List the models of a models.config that may mean this base path.

    By name, and by the base path's own name: in a container it lies elsewhere. One too many keeps a version too long,
    one too few takes one away that is served.
    """
    name = base.resolve().name
    return tuple(each for each in models if each.name == model or Path(each.base_path).name == name)


def is_elsewhere(model: ConfiguredModel, base: Path) -> bool:
    """Tell whether a model of a models.config is served from another folder of this machine, whatever its name is.

    A base path that is not here is most likely a container's, and may be this one.
    """
    try:
        return Path(model.base_path).is_dir() and not Path(model.base_path).samefile(base)
    except OSError:
        return False


def asked_by_config(models: Iterable[ConfiguredModel], numbers: Sequence[int]) -> Reasons:
    """Say what a models.config wants to be served, and what it labels."""
    spoken: defaultdict[int, list[str]] = defaultdict(list)
    for model in models:
        for label, number in model.labels.items():
            spoken[number].append(f"label {label}")
        policy = model.policy
        words = (
            "pinned by models.config (specific)"
            if isinstance(policy, Specific)
            else "models.config serves all"
            if isinstance(policy, All)
            else "models.config serves the latest"
        )
        for number in policy.choose(numbers):
            spoken[number].append(words)
    return spoken


def asked_by_history(records: Sequence[Record], models: Iterable[str]) -> Reasons:
    """Say what a label can be rolled back to, or was kept loaded for."""
    names = set(models)
    last = {(record.model, record.label): record for record in records if record.model in names}
    spoken: defaultdict[int, list[str]] = defaultdict(list)
    for (_, label), record in last.items():
        if record.version is None:  # whoever takes a label away has given its version up
            continue
        for number in {record.before, record.version, *record.kept} - {None}:
            words = f"last move of {label}" if number == record.version else f"rollback of {label}"
            spoken[int(number or 0)].append(words)
    return spoken


def asked_by_server(url: str, states: Iterable[VersionStatus], labels: Mapping[str, int]) -> Reasons:
    """Say what a server has loaded, or is about to load or to let go, and what it calls by a label."""
    spoken: defaultdict[int, list[str]] = defaultdict(list)
    for status in states:
        if status.state is not State.END:
            spoken[status.version].append(f"{status.state.name} at {url}")
    for label, number in labels.items():
        spoken[number].append(f"label {label} at {url}")
    return spoken


def asked_by_pins(pins: Iterable[int]) -> Reasons:
    """Say what somebody pinned."""
    return {number: ["pinned"] for number in pins}

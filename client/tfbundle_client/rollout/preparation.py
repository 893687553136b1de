"""What there is before a label moves, and whether it may: seen here and at every server; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfbundle_serving.apis.errors import RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel, find_model

from .base_paths import look, neighbours
from .config_file import ConfigFile
from .content import check_content
from .fleet import Fleet
from .history import kept_versions, read_history
from .plan import Plan, as_labelled, plan_change
from .rules import (
    Seen,
    check_base_paths,
    check_label,
    check_list,
    check_listed,
    check_servers,
    check_unloaded,
    check_version,
    remarks,
)
from .server import LIVE, States


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a label is moved.

    Attributes:
        command: What the history says: promote, rollback or canary.
        timeout_s: Seconds for a reload, and again for the version to be AVAILABLE.
        base_path: Where the model's versions are on this machine; None means where the models.config says.
        keep_loaded: Versions that stay loaded besides those that labels mean.
        unload_previous: Let the version go that the label leaves; otherwise it stays loaded until the next move.
        unload_others: Go on where a server has models that the models.config does not list.
    """

    command: str = "promote"
    timeout_s: float = 120.0
    base_path: Path | None = None
    keep_loaded: tuple[int, ...] = ()
    unload_previous: bool = False
    unload_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is of a model, here and at the servers.

    Attributes:
        entry: The model in the models.config.
        models: All of its models.
        states: Address to the states of the model's versions.
        labels: Address to the labels of the model that mean a version there now, and which.
        seen: Model name to what is seen of its base path from here.
        unknown_at: Model name to the servers that do not know it yet.
    """

    entry: ConfiguredModel
    models: tuple[ConfiguredModel, ...]
    states: Mapping[str, States]
    labels: Mapping[str, Mapping[str, int]]
    seen: Mapping[str, Seen]
    unknown_at: Mapping[str, Sequence[str]]

    @property
    def live(self) -> set[int]:
        """Versions of the model that some server has loaded, or is about to."""
        return set[int]().union(*map(live_versions, self.states.values()))

    def labelled(self, label: str) -> set[int]:
        """Versions that a label means at some server."""
        return {found[label] for found in self.labels.values() if label in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A change that can be made.

    Attributes:
        plan: The texts and versions.
        settings: As given.
        states: Address to the states of the model's versions.
        labels: Address to the labels of the model that mean a version there now, and which.
        seen: What is seen of the model's base path from here.
        remarks: What somebody should know before.
    """

    plan: Plan
    settings: Settings
    states: Mapping[str, States]
    labels: Mapping[str, Mapping[str, int]]
    seen: Seen
    remarks: tuple[str, ...]

    @property
    def labelled(self) -> dict[str, int | None]:
        """Address to the version that the label means there now."""
        return {url: found.get(self.plan.label) for url, found in self.labels.items()}

    def as_labelled(self, text: str) -> dict[str, str]:
        """Give what each server gets so that no label moves there: address to the text, labels as they are there."""
        return {url: as_labelled(text, self.plan.model, found) for url, found in self.labels.items()}

    @property
    def is_done(self) -> bool:
        """Whether the label means the version in the file and at every server, and nothing is left over."""
        plan = self.plan
        if plan.new != plan.old or any(found != plan.version for found in self.labelled.values()):
            return False
        loaded = None if plan.loaded is None else set(plan.loaded)
        return all(
            plan.version in live and (loaded is None or live <= loaded)
            for live in map(live_versions, self.states.values())
        )


def live_versions(states: States) -> set[int]:
    """Give the versions that are loaded, or about to be."""
    return {version for version, status in states.items() if status.state in LIVE}


def prepare_change(
    config: ConfigFile, fleet: Fleet, model: str, version: int, label: str, *, settings: Settings
) -> Prepared:
    """See what there is, and refuse what would go wrong; nothing is changed.

    Raises:
        NotFound: The models.config has no such model.
        InvalidArgument: It is no models.config.
        RolloutError: A rule of TensorFlow Serving forbids it, or a server does not answer.
    """
    models = config.read_models()
    entry = find_model(models, model, config.path)
    seen = look(models, model, settings.base_path)
    _refuse(config, [*check_label(label), *check_list(models), *check_version(entry, version, seen[model])])
    found = survey(config, fleet, model, label, settings=settings, version=version)
    if not all(version in live_versions(states) for states in found.states.values()):
        _refuse(config, check_content(model, version, seen[model]))
    plan = plan_change(
        config.text,
        model,
        version,
        label,
        live=found.live,
        labelled=found.labelled(label),
        kept_before=kept_versions(read_history(config.path), model, label),
        keep_loaded=settings.keep_loaded,
        unload_previous=settings.unload_previous,
        there=seen[model].versions,
    )
    return Prepared(
        plan=plan,
        settings=settings,
        states=found.states,
        labels=found.labels,
        seen=seen[model],
        remarks=(
            *plan.notes,
            *_unseen(entry, seen[model]),
            *remarks(models, seen, (model, label), found.unknown_at),
        ),
    )


def survey(
    config: ConfigFile, fleet: Fleet, model: str, label: str, *, settings: Settings, version: int | None = None
) -> Survey:
    """Ask every server what it has, and refuse a list that would harm one.

    Args:
        config: The models.config.
        fleet: Every server that it describes.
        model: Model name.
        label: A label of it, that the models.config may not have.
        settings: See there.
        version: The version that is to be loaded, if one is.

    Raises:
        NotFound: The models.config has no such model.
        InvalidArgument: It is no models.config.
        RolloutError: A reload would hang, or unload what others need, or a server does not answer.
    """
    models = config.read_models()
    entry = find_model(models, model, config.path)
    seen = look(models, model, settings.base_path)
    _refuse(config, check_list(models))
    # TensorFlow Serving names no models, but answers for one that is named.
    guesses = neighbours(models, seen) | {record.model for record in read_history(config.path)}
    try:
        # Of every model, because a reload is about all of them.
        states = {each.name: fleet.states(each.name) for each in models}
        labels = fleet.labels(model, dict.fromkeys([label, *entry.labels]))
        served = {} if settings.unload_others else fleet.served(guesses)
    except RolloutError as error:
        raise RolloutError(f"{error}; nothing was changed") from error
    unknown_at = {name: [url for url, found in at.items() if not found] for name, at in states.items()}
    strangers = list(check_servers(unknown_at))
    served_at = {name: [url for url, found in at.items() if live_versions(found)] for name, at in states.items()}
    loaded = None if version is None else (model, version)
    _refuse(
        config,
        [
            *(strangers or check_unloaded(models, served)),
            *check_base_paths(models, seen, unknown_at),
            *check_listed(models, seen, unknown_at, served_at, loaded),
        ],
    )
    return Survey(entry=entry, models=models, states=states[model], labels=labels, seen=seen, unknown_at=unknown_at)


def _refuse(config: ConfigFile, problems: Iterable[str]) -> None:
    if found := "; ".join(problems):
        raise RolloutError(f"{config.path}: {found}; nothing was changed")


def _unseen(entry: ConfiguredModel, seen: Seen) -> Iterator[str]:
    if not seen.path:
        yield (
            f"the base path of {entry.name}, {entry.base_path}, is not on this machine, so its versions cannot be "
            "looked at; --base-path says where they are here"
        )

"""The one procedure that moves a label: promote, rollback and canary are different reasons for it.

    with open_fleet(urls) as fleet, open_config(path) as config:
        prepared = prepare_change(config, fleet, "digits", 3, "canary", settings=Settings(command="canary"))
        with changed_label(config, fleet, prepared, say=say) as change:
            ...                      # version 3 is AVAILABLE at every server, and label canary means it
            if not is_good:
                change.undo()        # file and servers are as before

Nothing is changed by `prepare_change`, which refuses what would go wrong. `changed_label` loads the version beside what
is served, which only the servers are told; then the file is replaced by one rename, and the label moves. Whatever is
killed at whatever moment, the file is the old one or the new one, and the same command once more ends what was begun.
(Where a server reads the file by itself more often than a version loads, it is also the old one with that version.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError, RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel, find_model, read_models

from .base_paths import look
from .config_file import ConfigFile
from .fleet import LIVE, Fleet, States, TakenAwayError, say_failures
from .history import Record, append_record, kept_versions, last_move, read_history
from .plan import Plan, plan_change
from .rules import Seen, check_base_paths, check_list, check_version, remarks
from .talk import Say, quietly

#: Raises if what is loaded now must not get the label.
Prove = Callable[[Fleet], None]

#: Seconds within which a label has moved once its version is AVAILABLE.
_LABEL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a label is moved.

    Attributes:
        command: What the history says: promote, rollback or canary.
        timeout_s: Seconds for a reload, and again for the version to be AVAILABLE.
        base_path: Where the model's versions are on this machine; None means where the models.config says.
        keep_loaded: Versions that stay loaded besides those that labels mean.
        unload_previous: Let the version go that the label leaves; otherwise it stays loaded until the next move.
    """

    command: str = "promote"
    timeout_s: float = 120.0
    base_path: Path | None = None
    keep_loaded: tuple[int, ...] = ()
    unload_previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A change that can be made.

    Attributes:
        plan: The texts and versions.
        settings: As given.
        states: Address to the states of the model's versions.
        labelled: Address to the version that the label means there now.
        seen: What is seen of the model's base path from here.
        remarks: What somebody should know before.
    """

    plan: Plan
    settings: Settings
    states: Mapping[str, States]
    labelled: Mapping[str, int | None]
    seen: Seen
    remarks: tuple[str, ...]

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
    models = read_models(config.text)
    entry = find_model(models, model)
    seen = look(models, model, settings.base_path)
    problems = [*check_list(models), *check_version(entry, version, seen[model])]
    if problems:
        raise RolloutError(f"{config.path}: {'; '.join(problems)}; nothing was changed")
    try:
        # Of every model, because a reload is about all of them.
        states = {each.name: fleet.states(each.name) for each in models}
        labelled = fleet.labelled(model, label)
    except RolloutError as error:
        raise RolloutError(f"{error}; nothing was changed") from error
    unknown_at = {name: [url for url, found in at.items() if not found] for name, at in states.items()}
    problems = list(check_base_paths(models, seen, unknown_at))
    if problems:
        raise RolloutError(f"{config.path}: {'; '.join(problems)}; nothing was changed")
    live = set[int]().union(*map(live_versions, states[model].values()))
    plan = plan_change(
        config.text,
        model,
        version,
        label,
        live=live,
        label_now=next(iter(labelled.values())) if len(set(labelled.values())) == 1 else None,
        kept_before=kept_versions(read_history(config.path), model, label),
        keep_loaded=settings.keep_loaded,
        unload_previous=settings.unload_previous,
    )
    return Prepared(
        plan=plan,
        settings=settings,
        states=states[model],
        labelled=labelled,
        seen=seen[model],
        remarks=(*plan.notes, *_unseen(entry, seen[model]), *remarks(models, seen)),
    )


def _unseen(entry: ConfiguredModel, seen: Seen) -> Iterator[str]:
    if not seen.path:
        yield (
            f"the base path of {entry.name}, {entry.base_path}, is not on this machine, so its versions cannot be "
            "looked at; --base-path says where they are here"
        )


@dataclass(slots=True, kw_only=True)
class Change:
    """A label that has moved, until its block is left.

    Attributes:
        plan: The texts and versions.
        loaded_s: Address to seconds that the version took until it was AVAILABLE; 0 where it was already.
        moved_s: Seconds from the beginning until the label meant the version at every server.
        is_undone: Whether everything was put back.
        not_put_back: What could not be.
        warnings: What went wrong after the label had moved.
    """

    plan: Plan
    loaded_s: Mapping[str, float] = field(default_factory=dict)
    moved_s: float = 0.0
    is_undone: bool = False
    not_put_back: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    _config: ConfigFile
    _fleet: Fleet
    _old: bytes
    _timeout_s: float

    def undo(self) -> tuple[str, ...]:
        """Put file and servers back to what they were; twice is once.

        Returns:
            What could not be put back, in the words of a message.
        """
        if self.is_undone:
            return self.not_put_back
        self.is_undone = True
        trouble = []
        # The file first: a server that restarts now must not read what was refused.
        try:
            if self._config.content != self._old:
                self._config.replace(self._old)
        except (RolloutError, OSError) as error:
            trouble.append(f"{self._config.path}: {error}")
        failures = self._fleet.reload(self.plan.old, timeout_s=self._timeout_s).failures
        trouble += [
            f"{say_failures({url: error})} (a server reads the file when it starts)"
            for url, error in sorted(failures.items())
        ]
        if not failures:
            try:
                self._fleet.wait_labelled(self.plan.model, self.plan.label, self.plan.before, timeout_s=_LABEL_S)
            except RolloutError as error:
                trouble.append(str(error))
        self.not_put_back = tuple(trouble)
        return self.not_put_back

    def say_undone(self) -> str:
        """Say in one clause whether everything is as it was."""
        if not self.not_put_back:
            return f"{self._config.path} and every server are as before"
        return f"NOT put back: {'; '.join(self.not_put_back)}; everything else is as before"


@contextmanager
def changed_label(
    config: ConfigFile,
    fleet: Fleet,
    prepared: Prepared,
    *,
    say: Say = quietly,
    prove: Prove | None = None,
) -> Iterator[Change]:
    """Move a label for good, or not at all.

    Args:
        config: The models.config, locked.
        fleet: Every server that it describes.
        prepared: What `prepare_change` gave.
        say: Is told each step.
        prove: Is called when the version is AVAILABLE everywhere and no label means it yet; if it raises, none will.

    Yields:
        The change. Leaving the block by an exception puts everything back; so does its `undo`. Leaving it normally
        keeps it and writes the history.

    Raises:
        RolloutError: It failed, and what was changed was put back, except for what the message says.
    """
    plan, timeout_s = prepared.plan, prepared.settings.timeout_s
    change = Change(plan=plan, _config=config, _fleet=fleet, _old=config.content, _timeout_s=timeout_s)
    begun = time.monotonic()
    try:
        _load(change, config, fleet, prepared, say)
        if prove is not None:
            prove(fleet)
        _move(change, config, fleet, prepared, say)
        change.moved_s = time.monotonic() - begun
        yield change
    except BaseException as error:
        say("putting everything back")
        change.undo()
        if isinstance(error, (BundleError, OSError)):
            raise RolloutError(f"{error}; {change.say_undone()}") from error
        if change.not_put_back:
            say(change.say_undone())
        raise
    if not change.is_undone:
        change.warnings = tuple(_finish(config, fleet, prepared, say))


def _load(change: Change, config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say) -> None:
    plan, timeout_s = change.plan, prepared.settings.timeout_s
    say(f"loading {plan.model} version {plan.version} beside what is served")
    fleet.reload(plan.loading, timeout_s=timeout_s).all("reload")
    try:
        change.loaded_s = fleet.wait_available(plan.model, plan.version, before=prepared.states, timeout_s=timeout_s)
    except TakenAwayError:
        # A server that reads the file by itself has to find the version in it. Labels are as they were there, so what
        # a kill would leave is the old list with one version more.
        say(f"a server reads {config.path} by itself: adding the version there before the label moves")
        config.replace(plan.loading.encode("utf-8", "surrogateescape"))
        before = fleet.states(plan.model)
        fleet.reload(plan.loading, timeout_s=timeout_s).all("reload")
        change.loaded_s = fleet.wait_available(plan.model, plan.version, before=before, timeout_s=timeout_s)


def _move(change: Change, config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say) -> None:
    plan = change.plan
    say(f"moving label {plan.label} of {plan.model} to version {plan.version}")
    config.replace(plan.new.encode("utf-8", "surrogateescape"))
    fleet.reload(plan.moved, timeout_s=prepared.settings.timeout_s).all("reload")
    fleet.wait_labelled(plan.model, plan.label, plan.version, timeout_s=_LABEL_S)


def _finish(config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say) -> Iterator[str]:
    """Write the history, and let go what nobody needs; the label has moved, whatever happens here."""
    plan = prepared.plan
    last = last_move(read_history(config.path), plan.model, plan.label)
    is_known = plan.before == plan.version and last is not None and last.version == plan.version
    if not is_known:
        # A run that was killed has written the file and not the history.
        left = plan.before if plan.before != plan.version or last is None else last.version
        record = Record(
            model=plan.model,
            label=plan.label,
            before=None if left == plan.version else left,
            version=plan.version,
            kept=plan.kept,
            command=prepared.settings.command,
        )
        try:
            append_record(config.path, record)
        except OSError as error:
            yield f"the history beside {config.path} could not be written: {error.strerror or error}"
    if plan.moved != plan.new:
        say(f"unloading {plan.model} version {', '.join(map(str, plan.leaving))}")
        failures = fleet.reload(plan.new, timeout_s=prepared.settings.timeout_s).failures
        if failures:
            yield f"not unloaded everywhere: {say_failures(failures)}; the next reload does it"

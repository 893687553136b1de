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

from tfbundle_serving.apis.errors import BundleError, RolloutError

from .config_file import ConfigFile
from .fleet import Fleet, say_failures
from .history import note_move
from .plan import Plan
from .preparation import Prepared, live_versions
from .putting_back import LABEL_S, Before, put_back, say_put_back
from .sending import send_list
from .talk import Say, quietly

#: Raises if what is loaded now must not get the label.
Prove = Callable[[Fleet], None]


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
        refused: Address to why it took no list to begin with.
    """

    plan: Plan
    loaded_s: Mapping[str, float] = field(default_factory=dict)
    moved_s: float = 0.0
    is_undone: bool = False
    not_put_back: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, BundleError] = field(default_factory=dict)
    _config: ConfigFile
    _fleet: Fleet
    _old: bytes
    _prepared: Prepared

    def undo(self) -> tuple[str, ...]:
        """Put file and servers back to what they were; twice is once.

        Returns:
            What could not be put back, in the words of a message.
        """
        if self.is_undone:
            return self.not_put_back
        self.is_undone = True
        prepared, plan = self._prepared, self.plan
        before = Before(
            model=plan.model,
            label=plan.label,
            content=self._old,
            texts=prepared.as_labelled(plan.old),
            labelled=prepared.labelled,
            timeout_s=prepared.settings.timeout_s,
        )
        self.not_put_back = put_back(self._config, self._fleet, before, self.refused)
        return self.not_put_back

    def say_undone(self) -> str:
        """Say in one clause whether everything is as it was."""
        return say_put_back(self._config.path, self.not_put_back)


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
    change = Change(plan=prepared.plan, _config=config, _fleet=fleet, _old=config.content, _prepared=prepared)
    begun = time.monotonic()
    try:
        _ready(change, config, fleet, prepared, say, prove)
        _move(change, config, fleet, prepared, say)
        change.moved_s = time.monotonic() - begun
        yield change
    except BaseException as error:
        say("putting everything back")
        change.undo()
        if isinstance(error, (BundleError, OSError)):
            raise RolloutError(f"{error}; {change.say_undone()}") from error
        say(change.say_undone())
        raise
    if not change.is_undone:
        change.warnings = tuple(_finish(config, fleet, prepared, say))


def _ready(change: Change, config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say, prove: Prove | None) -> None:
    """Load the version everywhere and prove it."""
    plan = change.plan
    try:
        _load(change, fleet, prepared, say, prove)
    except BundleError:
        if change.refused or not _is_taken_away(fleet, plan):
            raise
    else:
        if not _is_taken_away(fleet, plan):
            return
    # A server that reads the file by itself has to find the version in it. Labels are as they were there, so what
    # a kill would leave is the old list with one version more.
    say(f"a server reads {config.path} by itself: adding the version there before the label moves")
    config.replace(plan.loading.encode("utf-8", "surrogateescape"))
    _load(change, fleet, prepared, say, prove)


def _is_taken_away(fleet: Fleet, plan: Plan) -> bool:
    return plan.loading != plan.old and fleet.is_taken_away(plan.model, plan.version)


def _load(change: Change, fleet: Fleet, prepared: Prepared, say: Say, prove: Prove | None) -> None:
    plan, timeout_s = change.plan, prepared.settings.timeout_s
    before = fleet.states(plan.model)
    if missing := [url for url, states in before.items() if plan.version not in live_versions(states)]:
        where = "" if len(missing) == len(before) else f" at {', '.join(sorted(missing))}"
        say(f"loading {plan.model} version {plan.version} beside what is served{where}")
    else:
        say(f"{plan.model} version {plan.version} is loaded already")
    reloaded = send_list(fleet, prepared.as_labelled(plan.loading), timeout_s=timeout_s, say=say)
    change.refused = reloaded.failures
    reloaded.all("reload")
    change.loaded_s = fleet.wait_available(plan.model, plan.version, before=before, timeout_s=timeout_s)
    if prove is not None:
        prove(fleet)


def _move(change: Change, config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say) -> None:
    plan = change.plan
    say(f"moving label {plan.label} of {plan.model} to version {plan.version}")
    config.replace(plan.new.encode("utf-8", "surrogateescape"))
    moved = (plan.model, plan.label)
    send_list(fleet, plan.moved, timeout_s=prepared.settings.timeout_s, needed=moved).all("reload")
    fleet.wait_labelled(plan.model, plan.label, plan.version, timeout_s=LABEL_S)


def _finish(config: ConfigFile, fleet: Fleet, prepared: Prepared, say: Say) -> Iterator[str]:
    """Write the history, and let go what nobody needs; the label has moved, whatever happens here."""
    plan = prepared.plan
    try:
        note_move(config.path, plan, prepared.settings.command, is_moved=True)
    except OSError as error:
        yield f"the history beside {config.path} could not be written: {error.strerror or error}"
    if plan.moved != plan.new:
        say(f"unloading {plan.model} version {', '.join(map(str, plan.leaving))}")
        moved = (plan.model, plan.label)
        failures = send_list(fleet, plan.new, timeout_s=prepared.settings.timeout_s, needed=moved).failures
        if failures:
            yield f"not unloaded everywhere: {say_failures(failures)}; the next reload does it"

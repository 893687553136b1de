"""A label that is taken away: a canary is given up, and its version leaves if nothing else needs it.

The label goes in one step, since that refuses nothing, and its version leaves in a second: until every server has let
the label go, it can be put back without a load. The file is replaced first; whatever is killed at whatever moment, the
same command once more ends what was begun.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.errors import BundleError, RolloutError
from tfbundle_serving.apis.models_config_edit import find_model, read_models, remove_label, set_policy
from tfbundle_serving.apis.version_policy import Specific

from .config_file import ConfigFile
from .fleet import Fleet, say_failures
from .history import Record, append_record, kept_by_others, kept_versions, last_move, read_history
from .plan import as_labelled
from .preparation import Settings, Survey, live_versions, survey
from .putting_back import LABEL_S, Before, put_back, say_put_back
from .sending import send_list
from .staying import reasons, say_loaded
from .talk import Say, quietly

#: What the history calls it.
DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropPlan:
    """A label that is to go.

    Attributes:
        model: Model name.
        label: The label.
        left: The version that it means, in the file or at a server; None where it means none.
        old: The models.config as it is.
        unlabelled: For the servers: the label gone, everything still loaded.
        new: For the file, and for the servers at last.
        loaded: Versions that `new` loads; None where it leaves that to the folder.
        kept: Those of them that other labels may go back to.
        leaving: Versions that nothing needs any more.
        notes: What somebody should know before.
    """

    model: str
    label: str
    left: int | None
    old: str
    unlabelled: str
    new: str
    loaded: tuple[int, ...] | None
    kept: tuple[int, ...]
    leaving: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def say_loaded(self) -> str:
        """Say in one line which versions stay loaded, and why."""
        return say_loaded(find_model(read_models(self.new), self.model), self.loaded, self.kept)


def plan_drop(
    text: str,
    model: str,
    label: str,
    *,
    labelled: Collection[int] = (),
    own_kept: Collection[int] = (),
    others_kept: Collection[int] = (),
    live: Collection[Collection[int]] = (),
    there: Collection[int] | None = None,
) -> DropPlan:
    """Work out what goes with a label.

    Args:
        text: The models.config.
        model: Model name.
        label: The label.
        labelled: Where the label points at the servers, should the file be ahead of them.
        own_kept: Versions that are loaded only so that this label can go back to them.
        others_kept: Versions that other labels may go back to.
        live: Server by server, the versions that it has loaded or loads.
        there: Versions that are on disk; None where nobody can tell.

    Raises:
        NotFound: The text has no such model.
        InvalidArgument: The text is no models.config.
    """
    entry = find_model(read_models(text), model)
    before = entry.labels.get(label)
    new = unlabelled = remove_label(text, model, label)
    needed = {version for name, version in entry.labels.items() if name != label} | set(others_kept)
    loaded: tuple[int, ...] | None = None
    leaving: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    if isinstance(entry.policy, Specific):
        listed = tuple(sorted(set(entry.policy.versions)))
        going = {before, *labelled, *own_kept} - needed
        leaving = tuple(each for each in listed if each in going)
        # A model without a version would answer nobody. What others need may be listed, and its folder gone.
        rest = set(listed) - going
        is_last = not (rest if there is None else rest.intersection(there))
        if leaving and (is_last or any(found and going.issuperset(found) for found in live)):
            notes = (f"version {', '.join(map(str, leaving))} stays loaded: no other version of {model} would answer",)
            leaving = ()
        loaded = tuple(each for each in listed if each not in leaving)
        if leaving:
            new = set_policy(new, model, Specific(versions=loaded))
    return DropPlan(
        model=model,
        label=label,
        left=before if before is not None else max(labelled, default=None),
        old=text,
        unlabelled=unlabelled,
        new=new,
        loaded=loaded,
        kept=tuple(sorted(set(others_kept).intersection(loaded or ()))),
        leaving=leaving,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A drop that can be made.

    Attributes:
        plan: The texts and versions.
        survey: What there is.
        settings: As given.
    """

    plan: DropPlan
    survey: Survey
    settings: Settings

    @property
    def is_done(self) -> bool:
        """Whether neither the file nor a server has such a label, and nothing is left over."""
        plan = self.plan
        live = self.survey.live
        is_loaded_as_said = plan.loaded is None or live <= set(plan.loaded)
        return plan.new == plan.old and not self.survey.labelled(plan.label) and is_loaded_as_said

    def to_json(self, *, is_dry_run: bool) -> dict[str, Any]:
        """Give everything as JSON values."""
        plan = self.plan
        labels = find_model(read_models(plan.new), plan.model).labels
        return {
            "dry_run": is_dry_run,
            "model": plan.model,
            "label": plan.label,
            "from": plan.left,
            "to": None,
            "already": self.is_done,
            "command": DROP,
            "loaded_versions": None if plan.loaded is None else list(plan.loaded),
            "staying": {str(version): list(said) for version, said in reasons(labels, plan.loaded, plan.kept).items()},
            "unloaded": list(plan.leaving),
            "servers": sorted(self.survey.states),
            "remarks": list(plan.notes),
        }


def prepare_drop(
    config: ConfigFile, fleet: Fleet, model: str, label: str, *, settings: Settings, version: int | None = None
) -> Drop:
    """See whether a label can be taken away; nothing is changed.

    Args:
        config: The models.config.
        fleet: Every server that it describes.
        model: Model name.
        label: The label.
        settings: How.
        version: What the label must mean, if it means anything; None: whatever it means.

    Raises:
        NotFound: The models.config has no such model.
        InvalidArgument: It is no models.config.
        RolloutError: A reload would do harm, a server does not answer, or the label means another version.
    """
    found = survey(config, fleet, model, label, settings=settings)
    records = read_history(config.path)
    plan = plan_drop(
        config.text,
        model,
        label,
        labelled=found.labelled(label),
        own_kept=kept_versions(records, model, label),
        others_kept=kept_by_others(records, model, label),
        live=[live_versions(states) for states in found.states.values()],
        there=found.seen[model].versions,
    )
    if version is not None and plan.left not in (None, version):
        raise RolloutError(f"label {label} of {model} means version {plan.left}, not {version}; nothing was changed")
    return Drop(plan=plan, survey=found, settings=settings)


def carry_out_drop(config: ConfigFile, fleet: Fleet, drop: Drop, say: Say = quietly) -> tuple[str, ...]:
    """Take the label away everywhere, or put everything back.

    Returns:
        What went wrong after the label had gone.

    Raises:
        RolloutError: It failed; the message says why and what could not be put back.
    """
    plan, timeout_s = drop.plan, drop.settings.timeout_s
    old = config.content
    if not drop.is_done:
        say(f"taking label {plan.label} of {plan.model} away")
        try:
            config.replace(plan.new.encode("utf-8", "surrogateescape"))
            send_list(fleet, plan.unlabelled, timeout_s=timeout_s, say=say).all("reload")
            gone: dict[str, int | None] = dict.fromkeys(drop.survey.labels)
            fleet.wait_labelled(plan.model, plan.label, gone, timeout_s=LABEL_S)
        except BaseException as error:
            say("putting everything back")
            labels = drop.survey.labels
            before = Before(
                model=plan.model,
                label=plan.label,
                content=old,
                texts={url: as_labelled(plan.old, plan.model, found) for url, found in labels.items()},
                labelled={url: found.get(plan.label) for url, found in labels.items()},
                timeout_s=timeout_s,
            )
            said = say_put_back(config.path, put_back(config, fleet, before))
            if isinstance(error, (BundleError, OSError)):
                raise RolloutError(f"{error}; {said}") from error
            say(said)
            raise
    return tuple(_finish(config, fleet, drop, say))


def _finish(config: ConfigFile, fleet: Fleet, drop: Drop, say: Say) -> Iterator[str]:
    """Write the history, and let the version go; the label has gone, whatever happens here."""
    plan = drop.plan
    try:
        _note(config, plan)
    except OSError as error:
        yield f"the history beside {config.path} could not be written: {error.strerror or error}"
    if plan.new != plan.unlabelled:
        say(f"unloading {plan.model} version {', '.join(map(str, plan.leaving))}")
        failures = send_list(fleet, plan.new, timeout_s=drop.settings.timeout_s).failures
        if failures:
            yield f"not unloaded everywhere: {say_failures(failures)}; the next reload does it"


def _note(config: ConfigFile, plan: DropPlan) -> None:
    """Write the history, unless it says so already; what a run that was killed did is caught up on."""
    last = last_move(read_history(config.path), plan.model, plan.label)
    left = plan.left if plan.left is not None or last is None else last.version
    if left is None:
        return
    append_record(
        config.path,
        Record(model=plan.model, label=plan.label, before=left, version=None, command=DROP),
    )

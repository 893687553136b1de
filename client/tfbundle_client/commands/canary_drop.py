"""`tfbundle canary --drop`: a canary that is given up."""

from __future__ import annotations

import difflib

from ..rollout.config_file import ConfigFile
from ..rollout.dropping import Drop, DropPlan, carry_out_drop, prepare_drop
from ..rollout.fleet import Fleet
from ..rollout.preparation import Settings
from .output import print_json
from .rollout_options import say, say_servers


def drop_canary(
    file: ConfigFile,
    fleet: Fleet,
    model: str,
    label: str,
    *,
    version: int | None,
    settings: Settings,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take a canary's label away and unload its version, or say what that would be.

    Raises:
        RolloutError: It failed, and was put back as far as the message says.
    """
    drop = prepare_drop(file, fleet, model, label, settings=settings, version=version)
    plan = drop.plan
    for note in plan.notes:
        say(f"note: {note}")
    if dry_run:
        if as_json:
            print_json({**drop.to_json(is_dry_run=True), "diff": _diff(plan, str(file.path))})
            return
        _print_preview(drop, str(file.path))
        return
    for warning in carry_out_drop(file, fleet, drop, say):
        say(f"warning: {warning}")
    if as_json:
        print_json(drop.to_json(is_dry_run=False))
        return
    where = say_servers(len(drop.survey.states))
    if drop.is_done:
        print(f"already: {model} has no label {label} at {where}")
    else:
        before = "" if plan.left is None else f" (before: {plan.left})"
        print(f"label {label} of {model} is gone at {where}{before}{_say_leaving(plan)}")
    print(plan.say_loaded())


def _print_preview(drop: Drop, path: str) -> None:
    plan = drop.plan
    if diff := _diff(plan, path):
        print(diff)
    if drop.is_done:
        print(f"1  nothing: {plan.model} has no label {plan.label}")
    else:
        print(f"1  take label {plan.label} of {plan.model} away in the file and at every server{_say_leaving(plan)}")
    print(plan.say_loaded())
    say("nothing was changed")


def _say_leaving(plan: DropPlan) -> str:
    return f"; unloading version {', '.join(map(str, plan.leaving))}" if plan.leaving else ""


def _diff(plan: DropPlan, path: str) -> str:
    lines = difflib.unified_diff(plan.old.splitlines(), plan.new.splitlines(), path, path, "now", "then", lineterm="")
    return "\n".join(lines)

"""`tfbundle promote`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..rollout.config_file import ConfigFile
from ..rollout.fleet import Fleet
from ..rollout.history import read_history
from ..rollout.leftover import find_leftovers
from ..rollout.preparation import Settings
from ..rollout.preview import steps, to_json, unified_diff
from ..rollout.promotion import Outcome, Promotion, Ready, carry_out, prepare
from ..rollout.staying import say_drop
from .options import Access, model_argument
from .output import print_json
from .rollout_options import failing_as_json, find_number, opened, repeated, rollout_options, say, say_servers

label_option = click.option("--label", default="stable", show_default=True, help="The version label.")
unload_option = click.option(
    "--unload-previous", is_flag=True, help="Unload the version that the label leaves; else it stays for a rollback."
)
skip_parity_option = click.option("--skip-parity", is_flag=True, help="Do not compare with the version's golden.npz.")
across_devices_option = click.option(
    "--across-devices", is_flag=True, help="The servers run on GPUs, the golden.npz is of a CPU: allow for TF32."
)


@click.command()
@model_argument
@click.argument("version")
@label_option
@unload_option
@skip_parity_option
@across_devices_option
@rollout_options
def promote(
    model: str,
    version: str,
    label: str,
    unload_previous: bool,
    skip_parity: bool,
    across_devices: bool,
    servers: tuple[str, ...],
    config: Path | None,
    base_path: Path | None,
    timeout: float,
    unload_others: bool,
    dry_run: bool,
    access: Access,
    as_json: bool,
) -> None:
    """Let a label of MODEL mean VERSION, a number or a tag, in the models.config and at every server.

    The version is loaded beside what is served and compared with its golden.npz; then the label moves. If anything
    fails, file and servers are put back.
    """
    with (
        failing_as_json(as_json, model),
        opened(config, servers, access, timeout_s=timeout, dry_run=dry_run) as (file, fleet),
    ):
        promotion = Promotion(
            model=model,
            version=find_number(version, file, model, base_path),
            label=label,
            settings=Settings(
                command="promote",
                timeout_s=timeout,
                base_path=base_path,
                unload_previous=unload_previous,
                unload_others=unload_others,
            ),
            is_proven=not skip_parity,
            across_devices=across_devices,
        )
        options = repeated(servers, config, base_path)
        run(file, fleet, promotion, options, dry_run=dry_run, as_json=as_json)


def run(
    file: ConfigFile, fleet: Fleet, promotion: Promotion, options: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    """Move a label, or say what that would be; the same for promote and rollback.

    Args:
        file: The models.config.
        fleet: Every server that it describes.
        promotion: What is to be done.
        options: Servers and files as they were typed, for the line that comes next.
        dry_run: Change nothing.
        as_json: Print JSON.
    """
    ready = prepare(file, fleet, promotion)
    if not ready.prepared.is_done:
        for remark in ready.prepared.remarks:
            say(f"note: {remark}")
        if not promotion.is_proven:
            say(f"warning: version {promotion.version} is not compared with its golden.npz")
    if dry_run:
        _print_preview(file, fleet, ready, as_json=as_json)
        return
    outcome = carry_out(file, fleet, promotion, ready, say)
    for warning in outcome.warnings:
        say(f"warning: {warning}")
    leftovers = find_leftovers(outcome.prepared.plan, read_history(file.path), outcome.missing)
    following = {each.label: say_drop(promotion.model, each.label, options) for each in leftovers}
    if as_json:
        print_json({**outcome.to_json(), "next": list(following.values())})
        return
    print(_say_outcome(outcome))
    for each in leftovers:
        print(f"{each.why}; if nobody asks for it:\nnext: {following[each.label]}")


def _print_preview(file: ConfigFile, fleet: Fleet, ready: Ready, *, as_json: bool) -> None:
    is_proven = ready.golden is not None
    if as_json:
        print_json(to_json(ready.prepared, fleet, str(file.path), is_proven=is_proven))
        return
    diff = unified_diff(ready.prepared, str(file.path))
    if diff:
        print(diff)
    for number, step in enumerate(steps(ready.prepared, fleet, is_proven=is_proven), 1):
        print(f"{number}  {step}")
    print(ready.prepared.plan.say_loaded())
    say("nothing was changed")


def _say_outcome(outcome: Outcome) -> str:
    plan = outcome.prepared.plan
    where = say_servers(len(outcome.prepared.states))
    what = f"label {plan.label} of {plan.model} means version {plan.version} at {where}"
    loaded = plan.say_loaded(outcome.missing)
    if outcome.was_done:
        return f"already: {what}\n{loaded}"
    return f"{what} ({_say_before(outcome)}; {outcome.moved_s:.1f} s)\n{loaded}"


def _say_before(outcome: Outcome) -> str:
    """Say what the label meant; at each server, where they differed."""
    found = outcome.prepared.labelled
    if len(set(found.values())) > 1:
        said = ", ".join(f"{version or 'none'} at {url}" for url, version in sorted(found.items()))
        return f"the servers differed before: {said}"
    left = outcome.prepared.plan.left
    return "new" if left is None else f"before: {left}"

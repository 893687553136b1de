"""`tfbundle canary`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from tfbundle_serving.apis.errors import BundleError, ParityError, RolloutError
from tfbundle_serving.apis.models_config_edit import find_model

from ..canary.check import check_canary
from ..canary.evidence import Bounds
from ..canary.inputs import check_inputs
from ..canary.latency import PAIRS
from ..canary.result import CanaryReport
from ..rollout.change import changed_label
from ..rollout.config_file import ConfigFile
from ..rollout.fleet import Fleet
from ..rollout.preparation import Prepared, Settings, live_versions, prepare_change
from ..rollout.preview import steps, to_json, unified_diff
from ..rollout.staying import say_drop
from .canary_drop import drop_canary
from .canary_output import print_canary, say_caution, say_meant
from .options import Access, Number, model_argument
from .output import print_json
from .parity import CouldNotCompare
from .rollout_options import failing_as_json, find_number, opened, repeated, rollout_options, say


@click.command()
@model_argument
@click.argument("version", required=False)
@click.option("--label", default="stable", show_default=True, help="The label of the version that it is compared with.")
@click.option("--canary-label", default="canary", show_default=True, help="The label that it gets.")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Ask both versions these: recorded requests, .npz, .npy; repeatable.  [default: both golden.npz]",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="True classes (.npy), one for each row of the inputs: compare accuracies.",
)
@click.option("--label-output", help="The output that predicts the labels.")
@click.option("--signature", default="", help="Ask this signature alone.  [default: all that there are inputs of]")
@click.option(
    "--min-agreement",
    type=Number(0, 1),
    help="Share of rows with the same answer.  [default: 0.9 where answers are probabilities, else 0.95]",
)
@click.option(
    "--max-latency-ratio",
    type=Number(0, min_open=True),
    default=Bounds().max_latency_ratio,
    show_default=True,
    help="How many times the stable version's p50 and p99 may be.",
)
@click.option(
    "--latency-pairs",
    type=click.IntRange(0),
    default=PAIRS,
    show_default=True,
    help="Requests that are timed with both versions.",
)
@click.option("--keep", is_flag=True, help="Let the canary stay loaded under its label even if the verdict is don't.")
@click.option("--drop", is_flag=True, help="Take the canary's label away and let its version go; nothing is compared.")
@rollout_options
def canary(
    model: str,
    version: str | None,
    label: str,
    canary_label: str,
    inputs: tuple[Path, ...],
    labels: Path | None,
    label_output: str | None,
    signature: str,
    min_agreement: float | None,
    max_latency_ratio: float,
    latency_pairs: int,
    keep: bool,
    drop: bool,
    servers: tuple[str, ...],
    config: Path | None,
    base_path: Path | None,
    timeout: float,
    unload_others: bool,
    dry_run: bool,
    access: Access,
    as_json: bool,
) -> int:
    """Load VERSION of MODEL beside the stable one, compare their answers and latencies, and say promote or don't.

    After a don't, file and servers are put back; after a promote, the version stays loaded under the label canary,
    until it is promoted, or given up with --drop, which needs no VERSION.

    Exit code 0: promote. 1: don't. 2: could not compare.
    """
    if label == canary_label:
        raise click.UsageError(f"--label and --canary-label are both {label}; the canary needs a label of its own")
    settings = Settings(command="canary", timeout_s=timeout, base_path=base_path, unload_others=unload_others)
    if drop:
        if inputs or labels or keep:
            raise click.UsageError("--drop compares nothing: it takes no --inputs, --labels and --keep")
        with (
            failing_as_json(as_json, model),
            opened(config, servers, access, timeout_s=timeout, dry_run=dry_run) as (file, fleet),
        ):
            given = None if version is None else find_number(version, file, model, base_path)
            drop_canary(
                file, fleet, model, canary_label, version=given, settings=settings, dry_run=dry_run, as_json=as_json
            )
        return 0
    if version is None:
        raise click.UsageError("VERSION is missing: the number or tag of the canary")
    with (
        failing_as_json(as_json, model),
        _could_not_compare(),
        opened(config, servers, access, timeout_s=timeout, dry_run=dry_run) as (file, fleet),
    ):
        truth = None if labels is None else _read_truth(labels)
        number = find_number(version, file, model, base_path)
        find_model(file.read_models(), model, file.path)
        stable = _find_stable(fleet, model, label, number)
        prepared = prepare_change(
            file,
            fleet,
            model,
            number,
            canary_label,
            settings=replace(settings, keep_loaded=(stable,)),
        )
        _check_inputs(fleet, model, stable, inputs, signature, truth)
        _remark(prepared, model, stable)
        if dry_run:
            _print_preview(file, fleet, prepared, inputs, as_json=as_json)
            return 0

        def check() -> CanaryReport:
            say(f"asking version {number} and version {stable} the same")
            return check_canary(
                [server.client for server in fleet.servers],
                model,
                number,
                canary_label=canary_label,
                stable_version=stable,
                inputs=inputs or None,
                base_path=prepared.seen.path or None,
                signature=signature,
                labels=truth,
                label_output=label_output,
                bounds=Bounds(min_agreement=min_agreement, max_latency_ratio=max_latency_ratio),
                latency_pairs=latency_pairs,
            )

        report, left, trouble = _carry_out(file, fleet, prepared, check, keep=keep)
    options = repeated(servers, config, base_path)
    following = shlex.join(["tfbundle", "promote", model, version, "--label", label, *options])
    dropping = say_drop(model, canary_label, options)
    is_left = report.is_promote or keep or prepared.is_done
    if as_json:
        following_json = {"next": following if report.is_promote else None, "drop": dropping if is_left else None}
        following_json["caution"] = say_caution(report) or None
        print_json({**report.to_json(), "left": "; ".join(left), **following_json})
    else:
        print_canary(report)
        print("\n".join(left))
        if is_left:
            print(f"to give it up: {dropping}")
        if report.is_promote:
            print(f"next: {following}")
        elif meant := say_meant(report, following, has_labels=truth is not None):
            print(meant)
        if caution := say_caution(report):
            print(caution)
    for line in trouble:
        say(f"warning: {line}")
    return 0 if report.is_promote else 1


@contextmanager
def _could_not_compare() -> Iterator[None]:
    """Let what keeps a verdict from being told have an exit code of its own."""
    try:
        yield
    except (BundleError, OSError) as error:
        raise CouldNotCompare(str(error)) from error


def _read_truth(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ParityError(f"{path} is not a .npy file of class numbers: {error}") from error


def _check_inputs(
    fleet: Fleet, model: str, stable: int, inputs: Sequence[Path], signature: str, truth: Any | None
) -> None:
    """Refuse inputs that cannot be read before anything is loaded for them."""
    try:
        check_inputs(fleet.servers[0].client, model, stable, inputs, signature=signature, labels=truth)
    except BundleError as error:
        raise ParityError(f"{error}; nothing was changed") from error


def _find_stable(fleet: Fleet, model: str, label: str, canary: int) -> int:
    """Find the version to compare with, which must be the same everywhere."""
    found = fleet.labelled(model, label)
    versions = set(found.values())
    if versions == {None}:
        raise RolloutError(
            f"no version of {model} has the label {label} at {fleet}, so there is nothing to compare with, and "
            f"requests without a label would all go to the canary: `tfbundle promote {model} N --label {label}` "
            "gives it one; nothing was changed"
        )
    if len(versions) != 1:
        said = ", ".join(f"{url}: {version or 'none'}" for url, version in sorted(found.items()))
        raise RolloutError(
            f"the servers do not agree on which version of {model} has the label {label} ({said}): "
            f"`tfbundle promote {model} N --label {label}` for all of them; nothing was changed"
        )
    (stable,) = versions
    if stable is None or stable == canary:
        raise RolloutError(
            f"version {canary} of {model} has the label {label} already; a canary is another version; "
            "nothing was changed"
        )
    return stable


def _remark(prepared: Prepared, model: str, stable: int) -> None:
    """Say what somebody should know before; what a change would do, its own remarks say."""
    if not prepared.is_done:
        for remark in prepared.remarks:
            say(f"note: {remark}")
    number = prepared.plan.version
    live = set[int]().union(*map(live_versions, prepared.states.values()))
    if prepared.is_done and number == max(live):
        say(
            f"warning: version {number} is the highest of {model}: requests that name neither version nor label go to "
            f"the canary; those that name the label get version {stable}"
        )


def _print_preview(
    file: ConfigFile, fleet: Fleet, prepared: Prepared, inputs: Sequence[Path], *, as_json: bool
) -> None:
    if as_json:
        print_json(to_json(prepared, fleet, str(file.path), is_proven=False))
        return
    diff = unified_diff(prepared, str(file.path))
    if diff:
        print(diff)
    found = steps(prepared, fleet, is_proven=False)
    found.append(f"ask both versions {', '.join(map(str, inputs)) or 'the inputs of both golden.npz'} at {fleet}")
    found.append("promote: it stays loaded; don't: file and servers are put back")
    for number, step in enumerate(found, 1):
        print(f"{number}  {step}")
    say("nothing was changed")


def _carry_out(
    file: ConfigFile, fleet: Fleet, prepared: Prepared, check: Callable[[], CanaryReport], *, keep: bool
) -> tuple[CanaryReport, tuple[str, ...], tuple[str, ...]]:
    """Load, compare, and put back what is not to stay.

    Returns:
        The report, what is left behind in lines, and what went wrong after the verdict.
    """
    plan = prepared.plan
    stays = f"version {plan.version} stays loaded under the label {plan.label}"
    loaded = plan.say_loaded()
    if prepared.is_done:
        return check(), (f"{stays}, as it was before", loaded), ()
    with changed_label(file, fleet, prepared, say=say) as change:
        report: CanaryReport = check()
        if not report.is_promote and not keep:
            say("putting everything back")
            change.undo()
    if change.is_undone:
        return report, (change.say_undone(),), ()
    return report, (stays, loaded), change.warnings

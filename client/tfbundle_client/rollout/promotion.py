"""Promote: a label goes to a version, after the version has proven itself at every server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..parity.result import ParityReport
from .change import changed_label
from .config_file import ConfigFile
from .fleet import Fleet
from .history import note_move
from .preparation import Prepared, Settings, prepare_change
from .proof import find_golden, prove, say_proof
from .staying import missing_at
from .talk import Say, quietly


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A label that is to go to a version.

    Attributes:
        model: Model name.
        version: The version.
        label: The label.
        settings: How it is moved.
        is_proven: Whether its answers are compared with its golden.npz before and after.
        across_devices: Allow for what a GPU rounds otherwise than a CPU.
    """

    model: str
    version: int
    label: str
    settings: Settings
    is_proven: bool = True
    across_devices: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A promotion that can be made.

    Attributes:
        prepared: The change.
        golden: What it is proven by; None where it is not.
    """

    prepared: Prepared
    golden: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a promotion or a rollback.

    Attributes:
        prepared: The change.
        was_done: Whether there was nothing to do.
        loaded_s: Address to seconds until the version was AVAILABLE.
        moved_s: Seconds until the label meant the version everywhere.
        reports: What was compared, a report for each server and signature.
        warnings: What went wrong after the label had moved.
        missing: Versions that the models.config asks for and no server has, and why.
    """

    prepared: Prepared
    was_done: bool = False
    loaded_s: Mapping[str, float]
    moved_s: float = 0.0
    reports: tuple[ParityReport, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        plan = self.prepared.plan
        return {
            "model": plan.model,
            "label": plan.label,
            "from": plan.before if plan.left is None else plan.left,
            "before": self.prepared.labelled,
            "to": plan.version,
            "already": self.was_done,
            "command": self.prepared.settings.command,
            "loaded_versions": None if plan.loaded is None else list(plan.loaded),
            "kept": list(plan.kept),
            "staying": plan.staying(self.missing),
            "servers": sorted(self.prepared.states),
            "loaded_s": dict(self.loaded_s),
            "moved_s": self.moved_s,
            "parity": [_without_latencies(report) for report in self.reports],
            "remarks": list(self.prepared.remarks),
            "warnings": list(self.warnings),
        }


def prepare(config: ConfigFile, fleet: Fleet, promotion: Promotion) -> Ready:
    """See whether a promotion can be made; nothing is changed.

    Raises:
        NotFound: The models.config has no such model.
        InvalidArgument: It is no models.config.
        RolloutError: A rule forbids it, a server does not answer, or there is nothing to prove it by.
    """
    prepared = prepare_change(
        config, fleet, promotion.model, promotion.version, promotion.label, settings=promotion.settings
    )
    golden = find_golden(prepared.seen, promotion.model, promotion.version) if promotion.is_proven else None
    return Ready(prepared=prepared, golden=golden)


def carry_out(config: ConfigFile, fleet: Fleet, promotion: Promotion, ready: Ready, say: Say = quietly) -> Outcome:
    """Make a promotion, or put everything back.

    Raises:
        RolloutError: It failed; the message says why and what could not be put back.
    """
    prepared, golden = ready.prepared, ready.golden
    plan = prepared.plan
    if prepared.is_done:
        note_move(config.path, plan, prepared.settings.command, is_moved=False)
        return Outcome(prepared=prepared, was_done=True, loaded_s={}, missing=missing_at(plan.wanted, prepared.states))
    reports: tuple[ParityReport, ...] = ()

    def check(servers: Fleet) -> None:
        nonlocal reports
        if golden is not None:
            reports = prove(servers, plan.model, golden, version=plan.version, across_devices=promotion.across_devices)
            say(say_proof(reports))

    with changed_label(config, fleet, prepared, say=say, prove=check) as change:
        if golden is not None:
            prove(
                fleet,
                plan.model,
                golden,
                version=plan.version,
                label=plan.label,
                across_devices=promotion.across_devices,
            )
    return Outcome(
        prepared=prepared,
        loaded_s=change.loaded_s,
        moved_s=change.moved_s,
        reports=reports,
        warnings=change.warnings,
        missing=find_missing(fleet, prepared),
    )


def find_missing(fleet: Fleet, prepared: Prepared) -> dict[int, str]:
    """Ask which versions the models.config asks for and no server has; a server that does not answer says nothing."""
    plan = prepared.plan
    answers = fleet.ask(lambda server: server.states(plan.model)).answers
    return missing_at(plan.wanted, answers) if answers else {}


def _without_latencies(report: ParityReport) -> dict[str, Any]:
    """Give a report as JSON values, with p50 and p99 in the place of every single latency."""
    found = report.to_json()
    for side in found["transports"]:
        for run in side["runs"]:
            p50, p99 = np.percentile(run.pop("latencies_s"), (50, 99)).tolist()
            run["latency_s"] = {"p50": p50, "p99": p99}
    return found

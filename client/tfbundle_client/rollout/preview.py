"""What a rollout would do, for --dry-run."""

from __future__ import annotations

import difflib
from typing import Any

from .fleet import Fleet
from .preparation import Prepared, live_versions


def unified_diff(prepared: Prepared, path: str) -> str:
    """Give the change of the models.config as a unified diff; "" where there is none."""
    plan = prepared.plan
    lines = difflib.unified_diff(plan.old.splitlines(), plan.new.splitlines(), path, path, "now", "then", lineterm="")
    return "\n".join(lines)


def steps(prepared: Prepared, fleet: Fleet, *, is_proven: bool) -> list[str]:
    """List what would be done, in order."""
    plan = prepared.plan
    if prepared.is_done:
        return [f"nothing: label {plan.label} of {plan.model} means version {plan.version} already"]
    found = [_load(prepared, server.url) for server in fleet.servers]
    if is_proven:
        found.append(f"compare version {plan.version} with its golden.npz at every server")
    if plan.new != plan.old:
        found.append("replace the models.config")
    found += [_move(prepared, server.url) for server in fleet.servers]
    if plan.leaving:
        found.append(f"unload version {', '.join(map(str, plan.leaving))} at every server")
    return found


def _load(prepared: Prepared, url: str) -> str:
    plan = prepared.plan
    live = live_versions(prepared.states[url])
    beside = ", ".join(str(version) for version in sorted(live - {plan.version})) or "none"
    if plan.version in live:
        return f"{url}: version {plan.version} is loaded already, beside {beside}"
    return f"{url}: load version {plan.version} beside {beside}"


def _move(prepared: Prepared, url: str) -> str:
    plan, now = prepared.plan, prepared.labelled[url]
    return f"{url}: label {plan.label} from {'nothing' if now is None else now} to {plan.version}"


def to_json(prepared: Prepared, fleet: Fleet, path: str, *, is_proven: bool) -> dict[str, Any]:
    """Give diff, steps and remarks as JSON values."""
    plan = prepared.plan
    return {
        "dry_run": True,
        "model": plan.model,
        "label": plan.label,
        "from": plan.before if plan.left is None else plan.left,
        "to": plan.version,
        "already": prepared.is_done,
        "staying": plan.staying(),
        "diff": unified_diff(prepared, path),
        "steps": steps(prepared, fleet, is_proven=is_proven),
        "remarks": list(prepared.remarks),
    }

"""What `tfbundle prune` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..pruning.choice import Verdict
from ..pruning.trash import TRASH, Trashed
from .output import print_json
from .rollout_options import say
from .size import show_bytes
from .tables import print_table


def print_prune(
    base: Path,
    model: str,
    servers: Sequence[str],
    verdicts: Sequence[Verdict],
    moved: Mapping[int, int],
    gone: Sequence[tuple[Trashed, int]],
    *,
    dry_run: bool,
    as_json: bool,
    at_once: bool,
) -> None:
    """Tell of a prune: which versions left or stay, and why."""
    would = "would be " if dry_run else ""
    freed = sum(size for _, size in gone) + (sum(moved.values()) if dry_run and at_once else 0)
    if as_json:
        print_json(
            {
                "model": model,
                "base_path": str(base),
                "dry_run": dry_run,
                "servers": list(servers),
                "pruned": [{"version": number, "bytes": size} for number, size in moved.items()],
                "kept": [
                    {"version": each.version.number, "reasons": list(each.reasons)}
                    for each in verdicts
                    if not each.goes
                ],
                "removed_for_good": [
                    {"version": each.number, "trashed_at": each.when.isoformat(), "bytes": size} for each, size in gone
                ],
                "trashed_bytes": sum(moved.values()),
                "freed_bytes": freed,
            }
        )
        return
    print_table(
        f"{model} in {base}: {len(moved)} of {len(verdicts)} versions {would}moved to {TRASH}",
        ("version", "size", "what", "why"),
        [
            (
                str(each.version.number),
                show_bytes(moved[each.version.number]) if each.goes else "-",
                f"{would}pruned" if each.goes else "stays",
                "; ".join(each.reasons) or "nothing speaks for it",
            )
            for each in verdicts
        ],
    )
    for each, size in gone:
        print(f"version {each.number} {would}removed for good, {show_bytes(size)} (in the trash since {each.when:%F})")
    print(f"{show_bytes(freed)} {would}freed")
    if moved and not at_once and not dry_run:
        say(f"back comes one with: tfbundle prune {base} --restore NUMBER")

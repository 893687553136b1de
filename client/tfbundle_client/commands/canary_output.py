"""What `tfbundle canary` prints for a person."""

from __future__ import annotations

from ..canary.result import CanaryReport
from .size import show_bytes
from .tables import print_table


def print_canary(report: CanaryReport) -> None:
    """Print a verdict, a row for each rule, and what else should be known."""
    print_table(
        f"{report.model}: canary version {report.version} beside stable version {report.stable}, "
        f"{report.rows:,} rows in {report.figures.requests:,} requests: {report.verdict.word}",
        ("result", "rule", "why"),
        [(each.status, each.rule, each.sentence) for each in report.verdict.findings],
    )
    for line in notes(report):
        print(line)


def notes(report: CanaryReport) -> list[str]:
    """Say what no rule is about."""
    found = []
    if report.sizes:
        sizes = ", ".join(f"version {version} {show_bytes(size)}" for version, size in sorted(report.sizes.items()))
        found.append(f"on disk, and about so much in memory: {sizes}")
    if report.was_cut_short:
        found.append(
            f"the canary failed {report.figures.canary_failures} requests; the rest of the inputs was not asked"
        )
    for count, what in (
        (report.stable_failures, f"that the canary alone answers, version {report.stable} does not"),
        (report.both_failed, "that neither version answers"),
        *((count, reason) for reason, count in sorted(report.skipped.items())),
    ):
        if count:
            found.append(f"left out: {count:,} requests {what}")
    return found

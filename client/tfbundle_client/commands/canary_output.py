"""What `tfbundle canary` prints for a person."""

from __future__ import annotations

from ..canary.result import CanaryReport
from .size import show_bytes
from .tables import print_table

#: Rules that only say that answers changed: a version that is right more often passes them.
_CHANGES = frozenset({"agreement", "certainty", "drift", "classes"})
#: Rules whose findings somebody may accept; nobody means a version to fail, or to serve what was not trained.
_CHOICES = frozenset({"signatures", "accuracy", "latency p50", "latency p99"})


def print_canary(report: CanaryReport) -> None:
    """Print a verdict, a row for each rule, and what else should be known."""
    print_table(
        f"{report.model}: canary version {report.version} beside stable version {report.stable}, "
        f"{_count(report.rows, 'row')} in {_count(report.figures.requests, 'request')}: {report.verdict.word}",
        ("result", "rule", "why"),
        [(each.status, each.rule, each.sentence) for each in report.verdict.findings],
    )
    for line in notes(report):
        print(line)


def say_caution(report: CanaryReport) -> str:
    """Say after a promote that it stands on few rows; "" where there are enough."""
    needed = report.verdict.needed_rows
    if not report.is_promote or not needed:
        return ""
    return (
        f"on {_count(report.rows, 'row')} only: enough to find a broken version, too few to find a slightly worse "
        f"one, which takes about {needed:,}; --inputs takes a recording"
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def say_meant(report: CanaryReport, promoting: str, *, has_labels: bool) -> str:
    """Say after a don't what somebody does who means the change; "" where that cannot be.

    Args:
        report: What came of the check.
        promoting: The line that promotes.
        has_labels: Whether true classes were given.
    """
    failed = {each.rule for each in report.verdict.findings if each.status == "fail"}
    if not failed or not failed <= _CHANGES | _CHOICES:
        return ""
    accuracy = "--labels y.npy, the true classes of the inputs, lets accuracy decide; or "
    return f"if the change is meant: {accuracy if failed <= _CHANGES and not has_labels else ''}`{promoting}` anyway"


def notes(report: CanaryReport) -> list[str]:
    """Say what no rule is about."""
    found = []
    if report.sizes:
        sizes = ", ".join(f"version {version} {show_bytes(size)}" for version, size in sorted(report.sizes.items()))
        found.append(f"on disk, and about so much in memory: {sizes}")
    if report.was_cut_short:
        found.append(
            f"the canary failed {_count(report.figures.canary_failures, 'request')}; "
            "the rest of the inputs was not asked"
        )
    for count, what in (
        (report.stable_failures, f"that the canary alone answers, version {report.stable} does not"),
        (report.both_failed, "that neither version answers"),
        *((count, reason) for reason, count in sorted(report.skipped.items())),
    ):
        if count:
            found.append(f"left out: {_count(count, 'request')} {what}")
    return found

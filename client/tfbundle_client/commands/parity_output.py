"""What `tfbundle parity` prints for a person."""

from __future__ import annotations

from ..parity.result import ParityReport
from .tables import print_table


def print_parity(report: ParityReport) -> None:
    """Print a parity report: one row a transport, the reasons of what differs, and the worst values."""
    columns = (
        "transport",
        "max abs diff",
        "max rel diff",
        "argmax agreement",
        f"top-{report.top_k} agreement",
        f"accuracy {report.expected_name}",
        "accuracy served",
        "examples/s",
        "verdict",
    )
    rows = [
        (
            name,
            f"{each.max_abs_diff:.3g}",
            f"{each.max_rel_diff:.3g}",
            share(each.argmax_agreement),
            share(each.top_k_agreement),
            share(report.accuracy_local),
            share(each.accuracy),
            f"{each.examples_per_second:,.0f}",
            "equal" if each.is_equal else "differs",
        )
        for name, each in zip(report.names, report.transports, strict=True)
    ]
    noise = "" if report.noise_floor is None else f", noise floor {report.noise_floor:.3g}"
    print_table(
        f"{report.model} version {report.version}, signature {report.signature}, {report.examples} examples{noise}: "
        f"{report.verdict}",
        columns,
        rows,
    )
    print(f"expected: {report.reference}")
    if report.is_equal:
        return
    for way, each in zip(report.names, report.transports, strict=True):
        for run in each.runs:
            for name, comparison in run.comparisons.items():
                if not comparison.equal:
                    print(f"{way}, {run.batch_size} examples a request, output {name}: {comparison.reason}")
    if report.worst:
        worst = [
            (
                str(each.difference.index[0]) if each.difference.index else "-",
                f"{each.output}{list(each.difference.index)}",
                show(each.difference.expected),
                show(each.difference.actual),
                f"{each.name}, {each.batch_size} a request",
            )
            for each in report.worst
        ]
        print_table("the worst values", ("row", "output", report.expected_name, "served", "seen over"), worst)


def show(value: object) -> str:
    """Show one value: floats with all digits that a float32 has, the rest as Python writes it, cut after 60 signs."""
    return f"{value:.9g}" if isinstance(value, (float, complex)) else f"{value!r:.60}"


def share(value: float | None) -> str:
    """Show a share as a percentage; a share below 100 % never rounds up to it."""
    if value is None:
        return "-"
    text = f"{value:.2%}"
    return text if value == 1.0 or text != "100.00%" else "<100%"

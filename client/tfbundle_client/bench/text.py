"""What `tfbundle bench` prints for a person: tables, and in sentences what a table would hide."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..commands.tables import print_table
from .measurement import LATE_S, LATE_SHARE, PERCENTILES, Measurement
from .run import BenchResult
from .sweep import Step, highest, limit

#: The columns that `cells` fills.
COLUMNS = ("offered/s", "achieved/s", "requests", "failed", "late", *(f"{name} ms" for name in PERCENTILES), "max ms")


def print_result(result: BenchResult) -> None:
    """Print a result."""
    what = f"{result.model} version {result.version} over {result.transport}, signature {result.signature}"
    inputs = ", ".join(f"{name} {spec}" for name, spec in result.inputs.items())
    print(f"{what}; each request carries {inputs or 'no input'}")
    if result.p99_s is not None:
        _print_search(result, result.p99_s)
    elif result.measurement is not None:
        _print_run(result.measurement)
    machine = result.machine
    print(f"sent from {machine['cpu']}, {machine['usable_cores']} cores, Python {machine['python'].split()[-1]}")


def _print_run(measurement: Measurement) -> None:
    load = measurement.load
    print_table(f"{load}, {load.duration_s:g} s", COLUMNS, [cells(measurement)])
    if measurement.latencies.count:
        mean_s = measurement.latencies.mean_s or 1.0
        rows = [
            (name, f"{part.mean_s * 1e3:.3f}", f"{part.mean_s / mean_s:.0%}", f"{part.max_s * 1e3:.3g}")
            for name, part in measurement.parts.items()
        ]
        print_table("where the time goes", ("part", "mean ms", "of the mean", "max ms"), rows)
    for note in notes(measurement):
        print(note)


def _print_search(result: BenchResult, p99_s: float) -> None:
    rows = [(*cells(step.measurement), "holds" if step.verdict.holds else step.verdict.reason) for step in result.steps]
    seconds = result.steps[0].measurement.load.duration_s if result.steps else 0.0
    title = f"search for the highest rate with p99 up to {p99_s * 1e3:g} ms; open loop, steps of {seconds:g} s or more"
    print_table(title, (*COLUMNS, "verdict"), rows)
    print(conclusion(result.steps, p99_s))
    if result.was_interrupted and result.measurement is not None:
        print("interrupted: the search is not over; the step that was going on:")
        _print_run(result.measurement)


def conclusion(steps: tuple[Step, ...], p99_s: float) -> str:
    """Say in a sentence what a search found."""
    best, worst = highest(steps), limit(steps)
    bound = f"p99 within {p99_s * 1e3:g} ms"
    if best is None:
        why = f": {worst.verdict.reason}" if worst is not None else ": none was measured to its end"
        return f"no rate that was tried keeps {bound}{why}"
    if worst is None:
        return f"{best.rate:g} requests/s keep {bound}; no higher rate was tried"
    text = (
        f"highest rate that keeps {bound}: {best.rate:g} requests/s ({worst.rate:g} does not: {worst.verdict.reason})"
    )
    return f"{text}; the limit is the generator's, the server's may be higher" if worst.verdict.is_ours else text


def step_line(step: Step) -> str:
    """Say in a line how a step went, while the search goes on."""
    p99 = _milliseconds(step.measurement.percentile(99.0))
    return f"{step.rate:g}/s: p99 {p99} ms, {'holds' if step.verdict.holds else step.verdict.reason}"


def cells(measurement: Measurement) -> tuple[str, ...]:
    """Give the row of a run: "-" where a figure cannot be given, "failed" for a percentile among failed requests."""
    return (
        f"{measurement.offered_rate:.4g}" if measurement.load.is_open else "-",
        f"{measurement.achieved_rate:.4g}",
        str(measurement.requests),
        str(measurement.failed),
        str(measurement.late) if measurement.load.is_open else "-",
        *(_milliseconds(measurement.percentile(each)) for each in PERCENTILES.values()),
        _milliseconds(measurement.latencies.max_s if measurement.latencies.count else None),
    )


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "failed" if math.isinf(seconds) else f"{seconds * 1e3:.3g}"


def notes(measurement: Measurement) -> Iterator[str]:
    """Yield a sentence on each thing that one has to know to read the numbers."""
    load = measurement.load
    if load.is_open:
        yield "latency counts from the moment at which the request should have been sent"
    else:
        yield (
            "closed loop: no request is sent while the server stalls, so the percentiles leave out what users would "
            "have waited; --rate measures that"
        )
    if load.warm_up_s:
        failures = f", {measurement.warm_up_failures} of them failed" if measurement.warm_up_failures else ""
        yield f"warm-up: {measurement.warm_up_requests} requests in {load.warm_up_s:g} s, not counted{failures}"
    for name, percent in PERCENTILES.items():
        if why := measurement.why_not(percent):
            yield f"{name} is not given: it {why}"
    for name, count in measurement.errors.most_common():
        yield f"{count} failed with {name}, first: {' '.join(measurement.messages[name].split())}"
    if measurement.failed:
        yield "a failed request counts as slower than every answered one; max is of the answered ones"
    if measurement.late:
        yield (
            f"{measurement.late} requests ({measurement.late_share:.1%}) were sent more than {LATE_S * 1e3:g} ms late, "
            f"at most {measurement.lag.max_s * 1e3:.3g} ms; their latency has it in it"
        )
    if load.is_open and measurement.late_share > LATE_SHARE:
        yield "the generator or its machine did not keep up: these numbers say as much about it as about the server"
    if len(measurement.versions) > 1:
        seen = ", ".join(f"{version} ({count})" for version, count in sorted(measurement.versions.items()))
        yield f"the version changed under the load: {seen}"
    if measurement.was_interrupted:
        yield f"interrupted: {measurement.unanswered} requests had no answer yet and are not counted"

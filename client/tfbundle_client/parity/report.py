"""A parity report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..commands.parity_output import share, show
from .pictures import PERCENTILES, agreement_picture, latency_picture
from .result import ParityReport, Run

_WORST = 5

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2126; --soft: #5d6873; --line: #d9dfe5; --panel: #f6f8fa;
  --good: #0a6b3d; --good-ground: #e3f5ea; --bad: #a3200d; --bad-ground: #fdeae6;
  --c0: #0a6fb8; --c1: #c9560a; --c2: #7a3fa0; --c3: #4a7a1f; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --ink: #e6eaee; --soft: #9ba7b3; --line: #333c45;
  --panel: #1b2127; --good: #7fe0ab; --good-ground: #12301f; --bad: #ffab9c; --bad-ground: #3b1811;
  --c0: #5cb3f2; --c1: #f59a53; --c2: #c79be8; --c3: #a3d068; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 3rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1.75rem 0 .4rem; } p { margin: .4rem 0; } .soft { color: var(--soft); }
.verdict { margin: 1rem 0; padding: .8rem 1rem; border-radius: .5rem; border-left: .35rem solid; }
.verdict strong { font-size: 1.15rem; } .equal { color: var(--good); background: var(--good-ground); }
.differs { color: var(--bad); background: var(--bad-ground); } .verdict p { color: var(--ink); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: .82rem; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; } td.good { color: var(--good); } td.bad { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } code { font-size: .9em; }
figure { margin: .5rem 0 1rem; } figcaption { color: var(--soft); font-size: .87rem; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg .panel { fill: var(--panel); stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .guide { stroke: var(--soft); stroke-dasharray: 4 4; } svg .mark { stroke: var(--ink); stroke-width: 1.2; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 11px; } svg .strong { font-weight: 600; }
svg .tick.strong { fill: var(--ink); } svg .dot { stroke: none; fill-opacity: .8; }
svg .ring { fill: none; stroke-width: 1; stroke-opacity: .75; }
svg .dot.series0 { fill: var(--c0); } svg .ring.series1 { stroke: var(--c1); } svg .dot.series2 { fill: var(--c2); }
svg .ring.series3 { stroke: var(--c3); } svg .fill0 { fill: var(--c0); } svg .fill1 { fill: var(--c1); }
svg .fill2 { fill: var(--c2); } svg .fill3 { fill: var(--c3); }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .4em; }
.key0, .key2 { background: var(--c0); } .key2 { background: var(--c2); }
.key1, .key3 { border: 2px solid var(--c1); } .key3 { border-color: var(--c3); }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } section { break-before: page; }
  section:first-of-type { break-before: auto; } figure, table, .verdict { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def write_report(
    path: str | os.PathLike[str], reports: Sequence[ParityReport], *, created_at: datetime | None = None
) -> None:
    """Write one or more parity reports as a page.

    Args:
        path: The file to make or replace.
        reports: What was found, in the order to show it.
        created_at: The time to print; None means now.

    Raises:
        OSError: The file cannot be written.
    """
    Path(path).write_text(render_report(reports, created_at=created_at), encoding="utf-8")


def render_report(reports: Sequence[ParityReport], *, created_at: datetime | None = None) -> str:
    """Give the page of one or more parity reports."""
    moment = (created_at or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M %Z")
    models = ", ".join(dict.fromkeys(f"{each.model} version {each.version}" for each in reports))
    sections = "".join(_section(each) for each in reports)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Parity of {escape(models)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{_question(reports)}</h1>"
        f'<p class="soft">{escape(models)}; written {escape(moment)} by tfbundle</p>{sections}</body></html>\n'
    )


def _question(reports: Sequence[ParityReport]) -> str:
    is_local = all(report.expected_name == "local" for report in reports)
    return f"Does what is served equal what {'was trained' if is_local else 'is expected'}?"


def _section(report: ParityReport) -> str:
    return (
        f"<section><h2>{escape(report.model)} version {report.version}</h2>{_verdict(report)}{_facts(report)}"
        f"{_summary(report)}{_agreement(report)}{_latency(report)}{_runs(report)}{_worst(report)}</section>"
    )


def _verdict(report: ParityReport) -> str:
    if report.is_equal:
        head = f"Equal over {_joined(report.names)}"
        noise = "" if report.noise_floor is None else f", the noise floor {_number(report.noise_floor)}"
        text = f"All answers are within the tolerance; the largest difference is {_number(report.max_abs_diff)}{noise}."
    else:
        differing = [name for name, each in zip(report.names, report.transports, strict=True) if not each.is_equal]
        head = f"Differs over {_joined(differing)}"
        text = next(each.reason for way in report.transports for each in way.comparisons if not each.equal)
    return f'<div class="verdict {report.verdict}"><strong>{escape(head)}</strong><p>{escape(text)}</p></div>'


def _facts(report: ParityReport) -> str:
    tolerances = sorted({str(each.tolerance) for way in report.transports for each in way.comparisons})
    sizes = _joined(str(run.batch_size) for run in report.transports[0].runs)
    facts = {
        "signature": report.signature,
        "reference": report.reference,
        "examples": f"{report.examples:,}, in requests of {sizes}",
        "servers": ", ".join(each.url for each in report.transports),
        "tolerance": "; ".join(tolerances),
    }
    if report.noise_floor is not None:
        facts["noise floor"] = f"{_number(report.noise_floor)}: the expected side's own difference between batch sizes"
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()) + "</dl>"


def _summary(report: ParityReport) -> str:
    head = [
        "",
        "max abs diff",
        "max rel diff",
        "argmax agreement",
        f"top-{report.top_k} agreement",
        f"accuracy {report.expected_name}",
        "accuracy served",
        "examples/s",
        "",
    ]
    rows: list[list[str | bool]] = [
        [
            f'<span class="key key{place % 4}"></span>{escape(name)}',
            _number(each.max_abs_diff),
            _number(each.max_rel_diff),
            share(each.argmax_agreement),
            share(each.top_k_agreement),
            share(report.accuracy_local),
            share(each.accuracy),
            f"{each.examples_per_second:,.0f}",
            each.is_equal,
        ]
        for place, (name, each) in enumerate(zip(report.names, report.transports, strict=True))
    ]
    return _table(head, rows)


def _agreement(report: ParityReport) -> str:
    name = report.label_output or next((each for each, array in report.expected.items() if _is_drawable(array)), None)
    if name is None or not _is_drawable(report.expected[name]):
        return ""
    expected = report.expected[name]
    served = {
        way: each.outputs[name]
        for way, each in zip(report.names, report.transports, strict=True)
        if name in each.outputs and each.outputs[name].shape == expected.shape
    }
    if not served:
        return ""
    rings = f", rings are {_joined(list(served)[1::2])}" if len(served) > 1 else ""
    return _figure(
        agreement_picture(expected, served, name, report.expected_name),
        f"Output {name}: each point is one value; on the dashed line, served and {report.expected_name} are the same. "
        f"Dots are {_joined(list(served)[::2])}{rings}.",
    )


def _is_drawable(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "fiu" and array.size > 0


def _latency(report: ParityReport) -> str:
    size = report.transports[0].runs[0].batch_size
    return _figure(
        latency_picture({name: each.latencies_s for name, each in zip(report.names, report.transports, strict=True)}),
        f"Time from the call to the decoded answer, one request of {size} "
        f"{'example' if size == 1 else 'examples'} after the other; the marks are the percentiles.",
    )


def _runs(report: ParityReport) -> str:
    percentiles = [f"p{each} ms" for each in PERCENTILES]
    head = ["", "examples a request", "requests", "max abs diff", *percentiles, "examples/s", ""]
    rows = [_run(name, run) for name, each in zip(report.names, report.transports, strict=True) for run in each.runs]
    return f"<h3>By request size</h3>{_table(head, rows)}"


def _run(name: str, run: Run) -> list[str | bool]:
    percentiles = np.percentile(np.asarray(run.latencies_s) * 1e3, PERCENTILES)
    return [
        escape(name),
        str(run.batch_size),
        str(len(run.latencies_s)),
        _number(max(each.max_abs_diff for each in run.comparisons.values())),
        *(f"{each:.3g}" for each in percentiles.tolist()),
        f"{run.examples_per_second:,.0f}",
        run.is_equal,
    ]


def _worst(report: ParityReport) -> str:
    head = ["value", "", report.expected_name, "served"]
    if report.worst:
        differing = [
            [
                escape(f"{each.output}{list(each.difference.index)}"),
                escape(f"{each.name}, {each.batch_size} a request"),
                escape(show(each.difference.expected)),
                escape(show(each.difference.actual)),
            ]
            for each in report.worst
        ]
        return f"<h3>The worst values beyond the tolerance</h3>{_table(head, differing)}"
    found = [
        (difference, way, name, index, expected, actual)
        for way, each in zip(report.names, report.transports, strict=True)
        for name, array in each.outputs.items()
        for difference, index, expected, actual in _largest(report.expected[name], array)
    ]
    found.sort(key=lambda row: -row[0])
    if not found:
        return ""
    rows = [
        [escape(f"{name}{list(index)}"), escape(way), f"{expected:.9g}", f"{actual:.9g}", _number(difference)]
        for difference, way, name, index, expected, actual in found[:_WORST]
    ]
    return f"<h3>Largest differences</h3>{_table([*head, 'difference'], rows)}"


def _largest(expected: NDArray[Any], actual: NDArray[Any]) -> list[tuple[float, tuple[int, ...], float, float]]:
    if not _is_drawable(expected) or expected.shape != actual.shape or not _is_drawable(actual):
        return []
    left, right = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        distance = np.nan_to_num(np.abs(left - right), nan=0.0, posinf=math.inf)
    places = np.argsort(-distance, kind="stable")[:_WORST]
    return [
        (
            float(distance[place]),
            tuple(int(part) for part in np.unravel_index(place, expected.shape)),
            float(left[place]),
            float(right[place]),
        )
        for place in places.tolist()
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str | bool]]) -> str:
    """Make a table; cells are HTML already, and True and False become a verdict."""
    cells = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(content: str | bool) -> str:
    if isinstance(content, bool):
        return '<td class="good">equal</td>' if content else '<td class="bad">differs</td>'
    return f"<td>{content}</td>"


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.3g}"


def _joined(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last

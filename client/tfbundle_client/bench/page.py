"""A load test as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from .measurement import Measurement
from .pictures import percentile_picture, sweep_picture, time_picture
from .run import BenchResult
from .sweep import Step, highest
from .text import COLUMNS, cells, conclusion, notes

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c2126; --soft: #5d6873; --line: #d9dfe5; --panel: #f6f8fa;
  --c0: #0a6fb8; --c1: #c9560a; --bad: #a3200d; --failed: #e9a99d; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --ink: #e6eaee; --soft: #9ba7b3; --line: #333c45;
  --panel: #1b2127; --c0: #5cb3f2; --c1: #f59a53; --bad: #ffab9c; --failed: #6b2c21; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 3rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
p, li { margin: .4rem 0; } .soft { color: var(--soft); } ul { padding-left: 1.2rem; }
.result { margin: 1rem 0; padding: .8rem 1rem; border-left: .35rem solid var(--c0); background: var(--panel);
  border-radius: .5rem; font-size: 1.1rem; font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: .82rem; } td.bad { color: var(--bad); white-space: normal; }
.named th:first-child, .named td:first-child { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .75rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: .5rem 0 1rem; } figcaption { color: var(--soft); font-size: .87rem; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg .panel { fill: var(--panel); stroke: var(--line); } svg .grid { stroke: var(--line); stroke-width: .7; }
svg .guide { stroke: var(--bad); stroke-dasharray: 5 4; } svg text { fill: var(--ink); }
svg .tick { fill: var(--soft); font-size: 11px; } svg .tick.strong { fill: var(--ink); font-weight: 600; }
svg polyline { fill: none; stroke-width: 1.8; } svg .line0 { stroke: var(--c0); } svg .line1 { stroke: var(--c1); }
svg .line0.dots, svg .fill0 { fill: var(--c0); stroke: none; } svg .line1.dots { fill: var(--c1); stroke: none; }
svg .ring0 { fill: var(--ground); stroke: var(--c0); stroke-width: 2; } svg .failed { fill: var(--failed); }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } figure, table { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def render_page(result: BenchResult) -> str:
    """Give the page of a result."""
    body = _search(result, result.p99_s) if result.p99_s is not None else ""
    if result.p99_s is None and result.measurement is not None:
        body = _headline(result.measurement) + _run(result.measurement)
    moment = result.started_at.strftime("%Y-%m-%d %H:%M %Z")
    title = escape(f"{result.model} version {result.version} under load")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{title}</h1><p class="soft">over {escape(result.transport)}; {escape(moment)}; by tfbundle bench</p>'
        f"{body}<h2>What was measured</h2>{_facts(result)}</body></html>\n"
    )


def _headline(measurement: Measurement) -> str:
    p99 = cells(measurement)[list(COLUMNS).index("p99 ms")]
    latency = {"-": "too few requests for a p99", "failed": "more than 1 % of the requests failed"}.get(
        p99, f"p99 {p99} ms"
    )
    return f'<div class="result">{escape(f"{measurement.load}: {latency}")}</div>'


def _run(measurement: Measurement) -> str:
    mean_s = measurement.latencies.mean_s or 1.0
    parts = [
        [name, f"{part.mean_s * 1e3:.3f}", f"{part.mean_s / mean_s:.0%}", f"{part.max_s * 1e3:.3g}"]
        for name, part in measurement.parts.items()
    ]
    failures = " Bars are failed requests, as tall as their share." if measurement.failed else ""
    where = _table(["", "mean ms", "of the mean", "max ms"], parts, "named") if measurement.latencies.count else ""
    return (
        f"{_table(COLUMNS, [cells(measurement)])}"
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes(measurement))}</ul>"
        f"{_figure('Latency by percentile', percentile_picture(measurement), 'Each step to the right is a nine more.')}"
        f"{_figure('Latency over time', time_picture(measurement), f'Blue: median, orange: maximum.{failures}')}"
        f"{'<h2>Where the time goes</h2>' + where if where else ''}"
    )


def _search(result: BenchResult, p99_s: float) -> str:
    best = highest(result.steps)
    details = f"<h2>At {best.rate:g} requests/s</h2>{_run(best.measurement)}" if best is not None else ""
    caption = "Blue: p99, orange: median. A filled dot holds, a ring does not."
    return (
        f'<div class="result">{escape(conclusion(result.steps, p99_s))}</div>'
        f"{_figure('Latency against rate', sweep_picture(result.steps, p99_s), caption)}"
        f"{_table([*COLUMNS, 'verdict'], map(_step, result.steps))}{details}"
    )


def _step(step: Step) -> Sequence[str]:
    return [*cells(step.measurement), "holds" if step.verdict.holds else step.verdict.reason]


def _facts(result: BenchResult) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    measured = result.measurement
    facts: Mapping[str, str] = {
        "server": result.url,
        "signature": result.signature,
        "each request": ", ".join(f"{name} {spec}" for name, spec in result.inputs.items()) or "no input",
        **({} if measured is None else {"bodies": _bodies(measured)}),
        "sent from": f"{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores, {machine['system']}",
        "with": f"{machine['python']}, {versions}",
    }
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()) + "</dl>"


def _bodies(measurement: Measurement) -> str:
    return f"{measurement.request_bytes:,} bytes there, up to {measurement.response_bytes:,} back"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    names = "".join(f"<th>{escape(each)}</th>" for each in head)
    body = "".join("<tr>" + "".join(map(_cell, head, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(head: str, content: str) -> str:
    kind = ' class="bad"' if head == "verdict" and content != "holds" else ""
    return f"<td{kind}>{escape(content)}</td>"


def _figure(title: str, picture: str, caption: str) -> str:
    if not picture:
        return ""
    return f"<h2>{escape(title)}</h2><figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"

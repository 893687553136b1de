"""The pictures of a load test, as inline SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from .measurement import PERCENTILES, Measurement
from .sweep import Step

Scale = Callable[[float], float]

_LEFT, _TOP, _WIDTH, _HEIGHT, _BOTTOM, _RIGHT = 64, 20, 640, 260, 48, 24
#: Points of a curve; more no eye tells apart.
_MOST_POINTS = 400
_LABEL_WIDTH = 110


def percentile_picture(measurement: Measurement) -> str:
    """Draw latency by percentile, the axis stretched towards 100 % as HdrHistogram does: each decade is a nine more.

    The curve ends with the largest latency, before the failed requests.
    """
    points = _percentile_points(measurement)
    if not points:
        return ""
    right = max(10.0, points[-1][0])
    low, high = _padded(points[0][1], points[-1][1])
    across, up = _logarithmic(1.0, right, _LEFT, _LEFT + _WIDTH), _logarithmic(low, high, _TOP + _HEIGHT, _TOP)
    steps = [(1.0, "0 %"), (2.0, "50 %"), *((10.0**nines, _nines(nines)) for nines in range(1, 9))]
    parts = [
        _panel("percentile", "latency in ms, log scale"),
        *_y_ticks(_decades(low, high), up),
        *(_x_tick(across(each), label) for each, label in steps if each <= right * 1.0001),
        _curve([(across(x), up(y)) for x, y in points], "line0"),
    ]
    for name, percent in PERCENTILES.items():
        value = measurement.percentile(percent)
        if value is not None and math.isfinite(value):
            x, y = across(100 / (100 - percent)), up(max(value * 1e3, low))
            parts.append(
                f'<circle class="fill0" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
                f'<text class="tick strong" {_beside(x, y)}>{name} {value * 1e3:.3g} ms</text>'
            )
    return _svg(parts, "latency by percentile")


def _beside(x: float, y: float) -> str:
    """Place a label left above a point of a rising curve, or right below it where it would leave the panel."""
    if x - _LEFT < _LABEL_WIDTH:
        return f'x="{x + 7:.1f}" y="{y + 15:.1f}"'
    return f'x="{x - 6:.1f}" y="{y - 8:.1f}" text-anchor="end"'


def _percentile_points(measurement: Measurement) -> list[tuple[float, float]]:
    """Give (1 / share above, milliseconds) along the buckets, thinned out evenly on the stretched axis."""
    total, seen = measurement.requests, 0
    points: list[tuple[float, float]] = []
    for end_s, count in measurement.latencies.buckets():
        seen += count
        x = total / max(total - seen, 1)
        near = points and math.log(x) - math.log(points[-1][0]) < math.log(total + 1) / _MOST_POINTS
        if not near or seen == measurement.latencies.count:
            points.append((x, max(end_s * 1e3, 1e-3)))
    if points:
        points.insert(0, (1.0, max(measurement.latencies.min_s * 1e3, 1e-3)))
    return points


def time_picture(measurement: Measurement) -> str:
    """Draw median and maximum over the run, by the moments at which requests should have been sent.

    A slice with failed requests has a mark at its foot, as tall as its share of failures.
    """
    rows = [
        (number * measurement.window_s, each.latencies.at_rank(-(-each.latencies.count // 2)), each.latencies.max_s)
        for number, each in sorted(measurement.windows.items())
        if each.latencies.count
    ]
    if not rows:
        return ""
    end = measurement.load.duration_s
    low, high = _padded(min(row[1] for row in rows) * 1e3, max(row[2] for row in rows) * 1e3)
    across, up = _linear(0.0, end, _LEFT, _LEFT + _WIDTH), _logarithmic(low, high, _TOP + _HEIGHT, _TOP)
    half = measurement.window_s / 2
    parts = [
        _panel("seconds after the warm-up", "latency in ms, log scale"),
        *_y_ticks(_decades(low, high), up),
        *(_x_tick(across(each), f"{each:g}") for each in _nice(0.0, end)),
    ]
    for number, each in sorted(measurement.windows.items()):
        if each.failures:
            left = across(number * measurement.window_s)
            wide = max(across((number + 1) * measurement.window_s) - left, 1.0)
            tall = _HEIGHT * each.failures / (each.failures + each.latencies.count)
            parts.append(
                f'<rect class="failed" x="{left:.1f}" y="{_TOP + _HEIGHT - tall:.1f}" width="{wide:.1f}" '
                f'height="{tall:.1f}"/>'
            )
    for column, kind in ((2, "line1"), (1, "line0")):
        parts.append(
            _curve(
                [(across(min(row[0] + half, end)), up(max(row[column] * 1e3, low))) for row in rows],
                kind,
                marks=len(rows) <= 60,
            )
        )
    return _svg(parts, "median and maximum latency over time")


def sweep_picture(steps: Sequence[Step], p99_s: float) -> str:
    """Draw p99 and median against the offered rate, with the bound; a filled dot holds, a ring does not."""
    rows = sorted(
        (step.rate, p99 * 1e3, median * 1e3, step.verdict.holds)
        for step in steps
        if (p99 := step.measurement.percentile(99.0)) is not None
        and math.isfinite(p99)
        and (median := step.measurement.percentile(50.0)) is not None
    )
    if not rows:
        return ""
    low, high = _padded(min(row[2] for row in rows), max(p99_s * 1e3, *(row[1] for row in rows)))
    left, right = _padded(rows[0][0], rows[-1][0])
    across, up = _logarithmic(left, right, _LEFT, _LEFT + _WIDTH), _logarithmic(low, high, _TOP + _HEIGHT, _TOP)
    bound = up(p99_s * 1e3)
    parts = [
        _panel("offered requests a second, log scale", "latency in ms, log scale"),
        *_y_ticks(_decades(low, high), up),
        *(_x_tick(across(each), f"{each:g}") for each in _decades(left, right)),
        f'<line class="guide" x1="{_LEFT}" y1="{bound:.1f}" x2="{_LEFT + _WIDTH}" y2="{bound:.1f}"/>',
        f'<text class="tick strong" x="{_LEFT + 6}" y="{bound - 6:.1f}">bound {p99_s * 1e3:g} ms</text>',
        _curve([(across(row[0]), up(max(row[2], low))) for row in rows], "line1"),
        _curve([(across(row[0]), up(row[1])) for row in rows], "line0"),
        *(
            f'<circle class="{"fill0" if row[3] else "ring0"}" cx="{across(row[0]):.1f}" cy="{up(row[1]):.1f}" r="4"/>'
            for row in rows
        ),
    ]
    return _svg(parts, "p99 against the offered rate")


def _nines(count: int) -> str:
    return {1: "90 %", 2: "99 %"}.get(count, f"99.{'9' * (count - 2)} %")


def _padded(low: float, high: float) -> tuple[float, float]:
    return low * 0.85, max(high, low * 1.2) * 1.18


def _linear(low: float, high: float, start: float, stop: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _logarithmic(low: float, high: float, start: float, stop: float) -> Scale:
    scale = _linear(math.log(low), math.log(high), start, stop)
    return lambda value: scale(math.log(value))


def _nice(low: float, high: float) -> list[float]:
    """Choose about five round numbers within a range."""
    rough = (high - low) / 5
    step = 10 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Choose 1, 2 and 5 times powers of ten within a range, powers alone of a wide one; of a narrow one, its ends."""
    factors = (1,) if high / low > 1e5 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [each for power in powers for factor in factors if low <= (each := factor * 10.0**power) <= high]
    return found if len(found) > 1 else [float(f"{low:.2g}"), *found, float(f"{high:.2g}")]


def _panel(x_label: str, y_label: str) -> str:
    middle = _TOP + _HEIGHT / 2
    return (
        f'<rect class="panel" x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}"/>'
        f'<text x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 38}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
    )


def _x_tick(x: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + _HEIGHT}"/>'
        f'<text class="tick" x="{x:.1f}" y="{_TOP + _HEIGHT + 17}" text-anchor="middle">{label}</text>'
    )


def _y_ticks(values: Sequence[float], up: Scale) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" y1="{up(each):.1f}" x2="{_LEFT + _WIDTH}" y2="{up(each):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 7}" y="{up(each) + 4:.1f}" text-anchor="end">{each:g}</text>'
        for each in values
    ]


def _curve(points: Sequence[tuple[float, float]], kind: str, *, marks: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    line = f'<polyline class="{kind}" points="{path}"/>'
    if not marks:
        return line
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in points)
    return f'{line}<g class="{kind} dots">{dots}</g>'


def _svg(parts: Sequence[str], description: str) -> str:
    box = f'viewBox="0 0 {_LEFT + _WIDTH + _RIGHT} {_TOP + _HEIGHT + _BOTTOM}"'
    return f'<svg {box} role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'

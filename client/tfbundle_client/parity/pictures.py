"""The pictures of a parity report, as inline SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: More points than that are thinned out; no eye tells them apart.
MAX_POINTS = 3000
PERCENTILES = (50, 90, 99)

_BINS = 44
_PANEL = 300
_LEFT, _TOP, _BOTTOM = 64, 30, 46

Scale = Callable[[float], float]


def agreement_picture(
    expected: NDArray[Any], served: Mapping[str, NDArray[Any]], name: str, expected_name: str = "local"
) -> str:
    """Draw served values against expected ones with the line of identity, and beside it their differences.

    Args:
        expected: What the source model answered; finite values are drawn.
        served: Transport to array of the same shape.
        name: The output's name, for the axes.
        expected_name: What the expected values are called.
    """
    points = {transport: _points(expected, array) for transport, array in served.items()}
    every = np.concatenate([np.concatenate(pair) for pair in points.values()] or [np.zeros(1)])
    low, high = _range(every)
    differences = np.concatenate([y - x for x, y in points.values()] or [np.zeros(1)])
    largest = float(np.abs(differences).max(initial=0.0)) or 1e-9
    across, up = _linear(low, high, _LEFT, _LEFT + _PANEL), _linear(low, high, _TOP + _PANEL, _TOP)
    offset = _LEFT + _PANEL + 96
    beside = _linear(low, high, offset, offset + _PANEL)
    around = _linear(-largest * 1.15, largest * 1.15, _TOP + _PANEL, _TOP)
    parts = [
        _frame(_LEFT, f"{expected_name} {name}", f"served {name}", f"served against {expected_name}"),
        *_ticks(low, high, across, up, _LEFT),
        f'<line class="guide" x1="{across(low):.1f}" y1="{up(low):.1f}" x2="{across(high):.1f}" y2="{up(high):.1f}"/>',
        _frame(offset, f"{expected_name} {name}", f"served - {expected_name}", "difference"),
        *_x_ticks(_nice(low, high), beside),
        *_y_ticks([-largest, 0.0, largest], around, offset),
        f'<line class="guide" x1="{offset}" y1="{around(0):.1f}" x2="{offset + _PANEL}" y2="{around(0):.1f}"/>',
    ]
    # The first transport's dots go on top of the rings.
    for place, (x, y) in reversed(list(enumerate(points.values()))):
        parts += [_marks(x, y, across, up, place), _marks(x, y - x, beside, around, place)]
    return _svg(offset + _PANEL + 16, _TOP + _PANEL + _BOTTOM, parts, f"served {name} against {expected_name} {name}")


def latency_picture(latencies_s: Mapping[str, Sequence[float]]) -> str:
    """Draw a histogram of request times for each transport, one above the other, with percentiles marked.

    Args:
        latencies_s: Transport to seconds of each request.
    """
    times_ms = {transport: np.asarray(times) * 1e3 for transport, times in latencies_s.items() if len(times)}
    every = np.concatenate(list(times_ms.values()) or [np.ones(1)])
    low, high = float(every.min()) * 0.9, float(every.max()) * 1.1
    width, height, gap = 660, 96, 62
    edges = np.geomspace(low, high, _BINS + 1)
    across = _logarithmic(low, high, _LEFT, _LEFT + width)
    parts: list[str] = []
    top = _TOP + 28
    for place, (transport, times) in enumerate(times_ms.items()):
        counts, _ = np.histogram(times, edges)
        base = top + height
        tallest = max(int(np.max(counts)), 1)
        parts.append(
            f'<text class="label" x="{_LEFT}" y="{top - 36}">{escape(transport)}: {len(times)} requests</text>'
            f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_LEFT + width}" y2="{base}"/>'
            f'<text class="tick" x="{_LEFT - 8}" y="{top + 4}" text-anchor="end">{tallest}</text>'
            f'<text class="tick" x="{_LEFT - 8}" y="{base + 4}" text-anchor="end">0</text>'
        )
        for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if count:
                x0, x1, tall = across(left), across(right), height * count / tallest
                parts.append(
                    f'<rect class="fill{place % 4}" x="{x0:.1f}" y="{base - tall:.1f}" '
                    f'width="{max(x1 - x0 - 0.6, 0.6):.1f}" height="{tall:.1f}"/>'
                )
        parts += _percentile_marks(times, across, top, base)
        parts += [
            f'<text class="tick" x="{across(at):.1f}" y="{base + 16}" text-anchor="middle">{at:g}</text>'
            f'<line class="axis" x1="{across(at):.1f}" y1="{base}" x2="{across(at):.1f}" y2="{base + 4}"/>'
            for at in _decades(low, high)
        ]
        top = base + gap + 28
    axis = _centred("milliseconds, log scale", _LEFT + width / 2, top - 44)
    return _svg(_LEFT + width + 24, top - 34, [*parts, axis], "histogram of request times")


def _percentile_marks(times: NDArray[Any], across: Scale, top: float, base: float) -> list[str]:
    marks = []
    for level, percent in enumerate(PERCENTILES):
        value = float(np.percentile(times, percent))
        x, y = across(value), top - 20 + 10 * level
        # Each label has a line of its own height, so that close percentiles stay readable.
        marks.append(
            f'<line class="mark" x1="{x:.1f}" y1="{y - 6:.1f}" x2="{x:.1f}" y2="{base}"/>'
            f'<text class="tick strong" x="{x + 4:.1f}" y="{y + 1:.1f}">p{percent} {value:.3g} ms</text>'
        )
    return marks


def _points(expected: NDArray[Any], array: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = expected.astype(np.float64).ravel(), array.astype(np.float64).ravel()
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    if x.size > MAX_POINTS:
        # Those that differ most stay; the rest is drawn evenly.
        order = np.argsort(-np.abs(y - x), kind="stable")
        kept = np.concatenate([order[:100], order[100 :: -(-x.size // (MAX_POINTS - 100))]])
        x, y = x[kept], y[kept]
    return x, y


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(np.min(values, initial=math.inf)), float(np.max(values, initial=-math.inf))
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if low >= 0 and high <= 1 and high > 0.2:
        return 0.0, 1.0
    margin = (high - low) * 0.04 or max(abs(high), 1.0) * 0.04
    return low - margin, high + margin


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
    """Choose 1, 2 and 5 times powers of ten within a range; of a narrow range, its ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    return found or [float(f"{low:.2g}"), float(f"{high:.2g}")]


def _frame(left: float, x_label: str, y_label: str, title: str) -> str:
    middle = _TOP + _PANEL / 2
    return (
        f'<rect class="panel" x="{left}" y="{_TOP}" width="{_PANEL}" height="{_PANEL}"/>'
        f'<text class="label strong" x="{left}" y="{_TOP - 10}">{escape(title)}</text>'
        f"{_centred(x_label, left + _PANEL / 2, _TOP + _PANEL + 36)}"
        f'<text class="label" transform="translate({left - 48},{middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )


def _centred(text: str, x: float, y: float) -> str:
    return f'<text class="label" x="{x}" y="{y}" text-anchor="middle">{escape(text)}</text>'


def _ticks(low: float, high: float, across: Scale, up: Scale, left: float) -> list[str]:
    values = _nice(low, high)
    return [*_x_ticks(values, across), *_y_ticks(values, up, left)]


def _x_ticks(values: Sequence[float], across: Scale) -> list[str]:
    return [
        f'<text class="tick" x="{across(each):.1f}" y="{_TOP + _PANEL + 17}" text-anchor="middle">{each:g}</text>'
        for each in values
    ]


def _y_ticks(values: Sequence[float], up: Scale, left: float) -> list[str]:
    return [
        f'<text class="tick" x="{left - 7}" y="{up(each) + 4:.1f}" text-anchor="end">{each:.2g}</text>'
        for each in values
    ]


def _marks(x: NDArray[np.float64], y: NDArray[np.float64], across: Scale, up: Scale, place: int) -> str:
    """Draw one transport's points: the first as dots, those after as rings around them."""
    seen = dict.fromkeys((round(across(a), 1), round(up(b), 1)) for a, b in zip(x.tolist(), y.tolist(), strict=True))
    kind, radius = ("dot", 1.8) if place % 2 == 0 else ("ring", 3.4)
    circles = "".join(f'<circle cx="{a}" cy="{b}" r="{radius}"/>' for a, b in seen)
    return f'<g class="{kind} series{place % 4}">{circles}</g>'


def _svg(width: float, height: float, parts: Sequence[str], description: str) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {box} role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'

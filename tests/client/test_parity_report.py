"""The HTML page of a parity report."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tfbundle_client import ParityReport
from tfbundle_client.parity.pictures import MAX_POINTS
from tfbundle_client.parity.report import render_report, write_report
from tfbundle_client.parity.result import Run, TransportParity
from tfbundle_serving.apis.comparison import compare

_NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def _report(expected: Any, served: Any, *, model: str = "digits", version: int = 1, **facts: Any) -> ParityReport:
    comparison = compare(expected, served)
    runs = tuple(
        Run(
            batch_size=size,
            examples=len(expected),
            comparisons={"probabilities": comparison},
            latencies_s=tuple(0.001 * (1 + place % 7) for place in range(-(-len(expected) // size))),
        )
        for size in (1, len(expected))
    )
    ways = tuple(
        TransportParity(url=url, transport=kind, runs=runs, accuracy=0.9, outputs={"probabilities": served})
        for url, kind in (("grpc://h:8500", "gRPC"), ("http://h:8501", "REST"))
    )
    return ParityReport(
        model=model,
        version=version,
        signature="serving_default",
        reference="models/digits/1",
        examples=len(expected),
        transports=ways,
        accuracy_local=0.9,
        expected={"probabilities": expected},
        **facts,
    )


def _probabilities(rows: int = 40) -> Any:
    return np.random.default_rng(1).dirichlet(np.ones(10), rows).astype(np.float32)


class _Page(HTMLParser):
    """Collects tags that are left open, and every address that the page would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone() -> None:
    """The page is well-formed and fetches nothing: no script, no link, no picture, no import."""
    expected = _probabilities()
    text = render_report([_report(expected, expected)], created_at=_NOON)
    page = _Page(text)
    assert (page.open, page.addresses) == ([], [])
    assert not re.search(r"<script|<link|<img|url\(|@import", text)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_the_verdict_comes_first() -> None:
    """Equal and different reports say so before anything else, with the reason."""
    expected = _probabilities()
    served = expected.copy()
    served[3, 2] += 0.25
    text = render_report([_report(expected, expected), _report(expected, served, version=2)], created_at=_NOON)
    assert text.index("Equal over gRPC and REST") < text.index("<table") < text.index("Differs over gRPC and REST")
    assert "1 of 400 values differ" in text
    assert "probabilities[3, 2]" in text
    assert "2026-11-21 12:00 UTC" in text


def test_numbers_of_both_transports_are_in_the_table() -> None:
    """Each transport has its row, and the noise floor stands beside them."""
    expected = _probabilities()
    text = render_report([_report(expected, expected, noise_floor=1.25e-7)], created_at=_NOON)
    assert "90.00%" in text
    assert "1.25e-07" in text
    assert "p50 " in text
    assert "p99 " in text


def test_names_are_escaped() -> None:
    """A model's name is text, not markup."""
    expected = _probabilities()
    text = render_report([_report(expected, expected, model="<b>&")], created_at=_NOON)
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text


def test_large_references_make_small_pages() -> None:
    """Points are thinned out, but the one that differs is drawn."""
    expected = _probabilities(20_000)
    served = expected.copy()
    served[12_345, 6] += 0.5
    text = render_report([_report(expected, served)], created_at=_NOON)
    assert text.count("<circle") <= 4 * MAX_POINTS
    assert "probabilities[12345, 6]" in text


@pytest.mark.parametrize(
    ("expected", "served"),
    [
        (np.array([np.nan, 1], np.float32), np.array([np.nan, np.inf], np.float32)),
        (np.array([5.0, 5.0]), np.array([5.0, 5.0])),
        (np.array([b"a", b"b"], object), np.array([b"a", b"c"], object)),
        (np.array([1, 2]), np.array([1, 2])),
        (np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)),
        (np.array([1 + 2j]), np.array([1 + 2j])),
        (np.array([True, False]), np.array([True, True])),
    ],
)
def test_odd_outputs_make_a_page(expected: Any, served: Any) -> None:
    """NaN, constants, strings, integers, other shapes and complex numbers are reported without a picture that lies."""
    assert _Page(render_report([_report(expected, served)], created_at=_NOON)).open == []


def test_the_page_is_written(tmp_path: Path) -> None:
    """The file holds the page."""
    expected = _probabilities()
    path = tmp_path / "report.html"
    write_report(path, [_report(expected, expected)], created_at=_NOON)
    assert path.read_text(encoding="utf-8") == render_report([_report(expected, expected)], created_at=_NOON)

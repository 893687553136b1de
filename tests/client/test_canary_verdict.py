"""The pure parts of a canary check: what answers have in common, what is more than chance, and what the rules say."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tfbundle_client.canary.accuracy import AccuracyFigures, compare_accuracy, mcnemar
from tfbundle_client.canary.evidence import Bounds, Figures, Promise
from tfbundle_client.canary.figures import OutputFigures, compare_answers
from tfbundle_client.canary.latency import LatencyFigures, time_pairs
from tfbundle_client.canary.verdict import Verdict, judge
from tfbundle_client.canary.views import View, choose_view
from tfbundle_serving.apis.errors import InvalidArgument

_KEY = ("serving_default", "probabilities")
_KEPT = Promise(is_equal=True, max_abs_diff=1e-7)


def _sure(rows: int, sure: float = 0.97) -> NDArray[np.float32]:
    """Give probabilities of three classes by turns, all sure."""
    table: NDArray[np.float32] = np.full((rows, 3), (1 - sure) / 2, np.float32)
    table[np.arange(rows), np.arange(rows) % 3] = sure
    return table


def _turned(table: NDArray[Any], rows: int) -> NDArray[Any]:
    """Give another class to the first rows."""
    other: NDArray[Any] = table.copy()
    other[:rows] = np.roll(other[:rows], 1, axis=1)
    return other


def _judge(stable: NDArray[Any], canary: NDArray[Any], bounds: Bounds | None = None, **others: Any) -> Verdict:
    view = choose_view(stable, "probabilities")
    outputs = {_KEY: compare_answers(stable, canary, view)}
    return judge(Figures(promise=_KEPT, outputs=outputs, requests=len(stable), **others), bounds)


def _failed(verdict: Verdict) -> list[str]:
    return [each.rule for each in verdict.findings if each.status == "fail"]


@pytest.mark.parametrize(
    ("answers", "name", "are_classes", "kind"),
    [
        (_sure(5), "y", False, "probabilities"),
        (np.array([[0.2, 0.1], [0.9, 0.9]]), "y", False, "values"),
        (np.array([[-3.0, 2.0]]), "logits", False, "logits"),
        (np.array([[-3.0, 2.0]]), "y", True, "logits"),
        (np.array([[-3.0, 2.0]]), "y", False, "values"),
        (np.array([[0.2], [0.7]]), "y", True, "binary"),
        (np.array([[0.2], [0.7]]), "y", False, "values"),
        (np.array([3, 4]), "y", False, "labels"),
        (np.array([b"a", b"b"], object), "y", False, "labels"),
        (np.array([1 + 2j]), "y", False, "values"),
        (np.empty((0, 3), np.float32), "y", False, "values"),
    ],
)
def test_what_an_output_is(answers: NDArray[Any], name: str, are_classes: bool, kind: str) -> None:
    """The answers tell whether they are classes, and the caller may."""
    assert choose_view(answers, name, are_classes=are_classes).kind == kind


@pytest.mark.parametrize(
    ("stable", "canary", "agreeing"),
    [
        (np.array([3, 4, 5]), np.array([3, 4, 6]), 2),
        (np.array([[b"a", b"b"]], object), np.array([[b"a", b"c"]], object), 1),
        (np.array([0.0, 1, 2, 3]), np.array([0.1, 1, 2, 30]), 3),
        (np.zeros(4), np.zeros(4), 4),
        (np.zeros(4), np.ones(4), 0),
        (np.array([1 + 1j, 2, 3, 4]), np.array([1 + 9j, 2, 3, 4]), 3),
        (np.array([0.0, 1, np.nan]), np.array([0.0, 1, np.nan]), 3),
        (np.array(7.0), np.array(7.0), 1),
        (_sure(4), _turned(_sure(4), 1), 3),
        (np.array([[0.5, 0.5, 0.0]]), np.array([[0.0, 0.5, 0.5]]), 1),
    ],
)
def test_rows_that_agree(stable: NDArray[Any], canary: NDArray[Any], agreeing: int) -> None:
    """Classes and labels are equal or tied, values are near in units of the stable version's spread."""
    figures = compare_answers(stable, canary, choose_view(stable, "y"))
    assert (figures.agreeing, figures.rows, figures.mismatched) == (
        agreeing,
        stable.size if stable.ndim < 2 else len(stable),
        0,
    )


def test_figures_of_blocks_add_up() -> None:
    """The figures of two halves are those of the whole, whatever the view was made of."""
    stable, canary = _sure(90), _turned(_sure(90), 17)
    view = choose_view(stable[:10], "y")
    whole = compare_answers(stable, canary, view)
    halves = compare_answers(stable[:40], canary[:40], view) + compare_answers(stable[40:], canary[40:], view)
    assert halves == whole
    assert (whole.flipped, whole.sure, whole.agreement) == (17, 90, 73 / 90)


def test_one_outlier_does_not_make_all_values_agree() -> None:
    """The spread is that between the quartiles, so that a single huge value hides nothing."""
    stable = np.append(np.linspace(0, 1, 99), 1e9)
    figures = compare_answers(stable, stable + 1.0, choose_view(stable, "y"))
    assert figures.agreeing == 1


@pytest.mark.parametrize(("one", "other"), [(0, 0), (0, 5), (6, 0), (3, 4), (10, 10), (200, 260)])
def test_mcnemar(one: int, other: int) -> None:
    """The p value is twice the smaller tail of a fair coin."""
    throws = one + other
    tail = sum(comb(throws, heads) for heads in range(min(one, other) + 1)) / 2**throws
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))


def test_mcnemar_of_many_rows() -> None:
    """Ten thousand rows are beyond a float's range, and still told."""
    assert 0 < mcnemar(4_800, 5_200) < 1e-4


def test_the_same_answers_are_promoted() -> None:
    """Nothing that differs by rounding is held against a version."""
    stable = _sure(300)
    verdict = _judge(stable, stable + np.float32(1e-8))
    assert (verdict.word, verdict.reasons) == ("promote", ())


@pytest.mark.parametrize(
    ("turned", "word"),
    [(1, "promote"), (2, "promote"), (3, "don't"), (30, "don't")],
)
def test_rows_that_were_sure(turned: int, word: str) -> None:
    """A few rows may be chance; more than one in two hundred that change are a fault, however many agree."""
    verdict = _judge(_sure(300), _turned(_sure(300), turned))
    assert verdict.word == word
    assert ("certainty" in _failed(verdict)) == (word == "don't")


@pytest.mark.parametrize(
    ("rows", "bounds", "unknown", "needed"),
    [
        (1, Bounds(), {"agreement", "drift"}, 59),
        (28, Bounds(), {"agreement", "drift", "certainty"}, 598),
        (29, Bounds(), {"drift", "certainty"}, 598),
        (59, Bounds(), {"certainty"}, 598),
        (597, Bounds(), {"certainty"}, 598),
        (598, Bounds(), set(), 0),
        (598, Bounds(min_agreement=0.999), {"agreement"}, 2995),
        (598, Bounds(min_agreement=1), set(), 0),
        (598, Bounds(min_agreement=0), set(), 0),
    ],
)
def test_too_few_rows_to_pass(rows: int, bounds: Bounds, unknown: set[str], needed: int) -> None:
    """A rule passes where a fault as frequent as its bound would have shown with 95 %: 0.995 ** 598 is below 0.05."""
    verdict = _judge(_sure(rows), _sure(rows), bounds)
    few = {each.rule for each in verdict.findings if each.needed_rows}
    assert (verdict.word, few, verdict.needed_rows) == ("promote", unknown, needed)
    assert all(
        each.status == "unknown" and "too few rows to tell" in each.sentence
        for each in verdict.findings
        if each.needed_rows
    )


def test_rows_that_were_in_doubt_may_change() -> None:
    """One row in twelve, of which the stable version was not sure, is what training on does."""
    stable = np.concatenate([_sure(220), _sure(20, 0.4)])
    canary = np.concatenate([_sure(220), np.roll(_sure(20, 0.4), 1, axis=0)])
    assert _judge(stable, canary).word == "promote"
    assert _failed(_judge(stable, canary, Bounds(min_agreement=0.99))) == ["agreement"]


def test_a_rare_class_that_is_lost() -> None:
    """Two of a hundred rows are all that there is of a class: hardly any share, and a fault."""
    stable = np.zeros(2000, np.int64)
    stable[:40] = 1
    verdict = _judge(stable, np.zeros(2000, np.int64))
    assert _failed(verdict) == ["classes"]
    assert "class 1 is answered 0 times instead of 40" in verdict.reasons[0]


def test_the_truth_has_the_last_word() -> None:
    """A version that is right significantly more often may disagree; one that is wrong more often never passes."""
    stable, canary = _sure(300), _turned(_sure(300), 60)
    truth = canary.argmax(axis=1)
    better = compare_accuracy(stable.argmax(axis=1), canary.argmax(axis=1), truth)
    assert (better.stable, better.canary, better.only_canary) == (0.8, 1.0, 60)
    assert _judge(stable, canary, accuracy=better, accuracy_of=_KEY).word == "promote"
    worse = compare_accuracy(canary.argmax(axis=1), stable.argmax(axis=1), truth)
    assert "accuracy" in _failed(_judge(stable, stable, accuracy=worse, accuracy_of=_KEY))
    chance = AccuracyFigures(rows=300, both=290, only_stable=4, only_canary=1)
    assert _judge(stable, stable, accuracy=chance, accuracy_of=_KEY).word == "promote"


@pytest.mark.parametrize(
    ("figures", "rule"),
    [
        (Figures(promise=Promise(is_equal=False, reason="off"), requests=1), "parity"),
        (Figures(promise=_KEPT, breaking=["x: gone"], requests=1), "signatures"),
        (Figures(promise=_KEPT, canary_failures=1, requests=9_999, first_failure="no"), "errors"),
        (
            Figures(promise=_KEPT, outputs={_KEY: OutputFigures(kind="values", rows=9, agreeing=9, not_finite=1)}),
            "finite",
        ),
        (
            Figures(promise=_KEPT, outputs={_KEY: OutputFigures(kind="labels", rows=9, mismatched=9, agreeing=9)}),
            "shapes",
        ),
        (Figures(promise=_KEPT, outputs={_KEY: OutputFigures(kind="values", rows=9, agreeing=9, shift=2.0)}), "drift"),
        (
            Figures(
                promise=_KEPT,
                outputs={
                    _KEY: OutputFigures(
                        kind="labels",
                        rows=1000,
                        agreeing=1000,
                        stable_classes={0: 500, 1: 500},
                        canary_classes={0: 300, 1: 700},
                    )
                },
            ),
            "drift",
        ),
    ],
)
def test_rules_that_fail_by_a_single_case(figures: Figures, rule: str) -> None:
    """Each of these alone is a don't."""
    verdict = judge(figures)
    assert (verdict.word, _failed(verdict)) == ("don't", [rule])


def test_what_nothing_is_known_of() -> None:
    """Without a request that the stable version answers nothing is found; where all is finite, a line says so."""
    (errors,) = (each for each in judge(Figures(promise=_KEPT)).findings if each.rule == "errors")
    assert (errors.status, errors.sentence) == ("unknown", "the stable version answered no request")
    (finite,) = (each for each in _judge(_sure(9), _sure(9)).findings if each.rule == "finite")
    assert (finite.status, finite.figure) == ("pass", 0.0)


def _latencies(pairs: int, times: float, noise: float = 0.1) -> LatencyFigures:
    random = np.random.default_rng(1)
    stable, canary = random.normal(1e-3, noise * 1e-3, (2, pairs))
    return LatencyFigures(stable_s=tuple(stable), canary_s=tuple(times * canary))


@pytest.mark.parametrize(
    ("latency", "p50", "p99"),
    [
        (_latencies(400, 1.0), "pass", "pass"),
        (_latencies(400, 2.0), "fail", "fail"),
        (_latencies(100, 2.0), "fail", "unknown"),
        (_latencies(5, 3.0), "unknown", "unknown"),
        (LatencyFigures(), "unknown", "unknown"),
    ],
)
def test_latencies(latency: LatencyFigures, p50: str, p99: str) -> None:
    """A ratio fails where it is certain, and a few pairs of requests are no ground for either."""
    found = {each.rule: each.status for each in judge(Figures(promise=_KEPT, latency=latency)).findings}
    assert (found["latency p50"], found["latency p99"]) == (p50, p99)


def test_a_single_slow_answer_is_no_finding() -> None:
    """One second among two hundred thousandths moves no percentile for certain."""
    stable = (1e-3,) * 210
    canary = (*(1e-3,) * 207, 1.0, 1.0, 1.0)
    verdict = judge(Figures(promise=_KEPT, latency=LatencyFigures(stable_s=stable, canary_s=canary)))
    assert verdict.word == "promote"


def test_pairs_alternate() -> None:
    """Both are asked the same by turns, each of them first every other time."""
    order: list[str] = []
    latency = time_pairs([1, 2], lambda _: order.append("stable"), lambda _: order.append("canary"), pairs=4)
    assert len(latency) == 4
    pairs: Iterator[tuple[str, str]] = zip(order[::2], order[1::2], strict=True)
    assert list(pairs)[:4] == [("canary", "stable"), ("stable", "canary")] * 2


@pytest.mark.parametrize("wrong", [{"min_agreement": 1.5}, {"min_agreement": float("nan")}, {"max_latency_ratio": 0.0}])
def test_bounds_that_are_none(wrong: dict[str, float]) -> None:
    """A bound that nothing can meet is refused."""
    with pytest.raises(InvalidArgument):
        Bounds(**wrong)


def test_values_of_another_length() -> None:
    """Rows of another length than the first are measured by the median spread."""
    view = View(kind="values", unit=np.array([1.0, 1.0, 1.0]))
    figures = compare_answers(np.zeros((2, 5)), np.full((2, 5), 0.4), view)
    assert (figures.agreeing, figures.rows) == (2, 2)

"""The rules of a canary check, one a function: from all figures and bounds to findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from .accuracy import SIGNIFICANCE, mcnemar
from .evidence import SURE_ROWS, Bounds, Figures, Finding, Status

#: Fewer rows than this are no share worth a bound, whichever way they go: chance makes three of anything.
_FEW = 3
#: A fault that is as frequent as its bound has to show at least once with this probability.
_SHOWN = 0.95
#: A class that lost or won rows is looked at where the stable version names it that often.
_CLASS_ROWS = 20
#: Pairs of requests that a median, or a 99th percentile, takes.
_MEDIAN_PAIRS, _TAIL_PAIRS = 20, 200


def _promise(figures: Figures, _: Bounds) -> Iterator[Finding]:
    promise = figures.promise
    statuses: dict[bool | None, Status] = {True: "pass", False: "fail", None: "unknown"}
    sentences = {
        True: "what is served equals what was trained",
        False: f"what is served differs from what was trained: {promise.reason}",
        None: f"whether what is served equals what was trained is not known: {promise.reason}",
    }
    yield Finding(
        rule="parity",
        status=statuses[promise.is_equal],
        figure=promise.max_abs_diff,
        sentence=sentences[promise.is_equal]
        + (
            f" (max abs diff {promise.max_abs_diff:.3g})"
            if promise.is_equal and promise.max_abs_diff is not None
            else ""
        ),
    )


def _signatures(figures: Figures, _: Bounds) -> Iterator[Finding]:
    count = len(figures.breaking)
    yield Finding(
        rule="signatures",
        status="fail" if count else "pass",
        figure=float(count),
        bound=0.0,
        sentence=f"a client would notice: {'; '.join(figures.breaking)}"
        if count
        else "no client would notice a change",
    )


def _errors(figures: Figures, _: Bounds) -> Iterator[Finding]:
    failed, asked = figures.canary_failures, figures.requests + figures.canary_failures
    if not asked:
        yield Finding(rule="errors", status="unknown", sentence="the stable version answered no request")
        return
    why = f": {_shorten(figures.first_failure)}" if failed else ""
    yield Finding(
        rule="errors",
        status="fail" if failed else "pass",
        figure=failed / asked,
        bound=0.0,
        sentence=f"the canary fails {failed:,} of {asked:,} requests that the stable version answers{why}",
    )


def _finite(figures: Figures, _: Bounds) -> Iterator[Finding]:
    for key, each in figures.outputs.items():
        if each.not_finite:
            yield Finding(
                rule="finite",
                status="fail",
                output=_name(key),
                figure=each.not_finite / each.rows,
                bound=0.0,
                sentence=f"{_name(key)}: {each.not_finite:,} of {each.rows:,} rows are NaN or infinite "
                "with the canary alone",
            )
    if figures.outputs and not any(each.not_finite for each in figures.outputs.values()):
        yield Finding(
            rule="finite", status="pass", figure=0.0, bound=0.0, sentence="no answer is NaN or infinite that was not"
        )


def _shapes(figures: Figures, _: Bounds) -> Iterator[Finding]:
    for key, each in figures.outputs.items():
        if each.mismatched:
            yield Finding(
                rule="shapes",
                status="fail",
                output=_name(key),
                figure=each.mismatched / each.rows,
                bound=0.0,
                sentence=f"{_name(key)}: {each.mismatched:,} of {each.rows:,} rows have another form: {each.trouble}",
            )


def _agreement(figures: Figures, bounds: Bounds) -> Iterator[Finding]:
    for key, each in figures.outputs.items():
        if each.agreement is None:
            continue
        bound = bounds.agreement_for(each)
        what = "have the same answer" if each.kind != "values" else "are within half a spread of the stable version's"
        sentence = (
            f"{_name(key)}: {_share(each.agreement)} of {each.rows:,} rows {what}, at least {_share(bound)} is good"
        )
        is_few = each.rows - each.agreeing < _FEW
        yield _weighed(
            figures,
            key,
            "agreement",
            each.agreement,
            bound,
            sentence,
            fails=each.agreement < bound,
            is_few=is_few,
            needed_rows=_needed(each.rows, 1 - bound),
        )


def _certainty(figures: Figures, bounds: Bounds) -> Iterator[Finding]:
    for key, each in figures.outputs.items():
        if not each.sure:
            continue
        share = each.flipped / each.sure
        sure_rows = _needed(each.sure, bounds.max_flipped)
        sentence = (
            f"{_name(key)}: of {each.sure:,} rows that the stable version is sure of, {each.flipped:,} "
            f"({_share(share)}) are answered otherwise, at most {_share(bounds.max_flipped)} is good"
        )
        yield _weighed(
            figures,
            key,
            "certainty",
            share,
            bounds.max_flipped,
            sentence,
            fails=share > bounds.max_flipped,
            is_few=each.flipped < _FEW,
            # Where it is sure of hardly any, agreement has to do.
            needed_rows=math.ceil(sure_rows * each.rows / each.sure) if each.sure >= SURE_ROWS else 0,
        )


def _drift(figures: Figures, bounds: Bounds) -> Iterator[Finding]:
    for key, each in figures.outputs.items():
        if each.class_shift is not None:
            sentence = (
                f"{_name(key)}: the classes' frequencies move by {_share(each.class_shift)} of the rows, "
                f"at most {_share(bounds.max_class_shift)} is good"
            )
            moved = each.class_shift * sum(each.stable_classes.values())
            fails = each.class_shift > bounds.max_class_shift
            yield _weighed(
                figures,
                key,
                "drift",
                each.class_shift,
                bounds.max_class_shift,
                sentence,
                fails=fails,
                is_few=moved < _FEW,
                needed_rows=_needed(each.rows, bounds.max_class_shift),
            )
        elif each.mean_shift is not None:
            sentence = (
                f"{_name(key)}: the mean moves by {abs(each.mean_shift):.3g} of the stable version's spread, "
                f"at most {bounds.max_mean_shift:g} is good"
            )
            yield _weighed(
                figures,
                key,
                "drift",
                abs(each.mean_shift),
                bounds.max_mean_shift,
                sentence,
                fails=abs(each.mean_shift) > bounds.max_mean_shift,
                is_few=each.rows < _FEW,
            )


def _classes(figures: Figures, bounds: Bounds) -> Iterator[Finding]:
    """A rare class that is hardly found any more moves no share of all rows, and may be what the model is for."""
    for key, each in figures.outputs.items():
        worst: tuple[float, Any, int, int] | None = None
        for name, count in each.stable_classes.items():
            left, entered = each.left.get(name, 0), each.entered.get(name, 0)
            change = abs(entered - left) / count
            is_chance = mcnemar(left, entered) >= SIGNIFICANCE / len(each.stable_classes)
            if count >= _CLASS_ROWS and not is_chance and (worst is None or change > worst[0]):
                worst = (change, name, count, count + entered - left)
        if worst is None or worst[0] <= bounds.max_class_change:
            continue
        change, name, before, after = worst
        sentence = (
            f"{_name(key)}: class {_show_class(name)} is answered {after:,} times instead of {before:,}, a change of "
            f"{_share(change)}, at most {_share(bounds.max_class_change)} is good"
        )
        yield _weighed(figures, key, "classes", change, bounds.max_class_change, sentence, fails=True, is_few=False)


def _accuracy(figures: Figures, _: Bounds) -> Iterator[Finding]:
    known = figures.accuracy
    if known is None or not known.rows:
        return
    better, worse = known.canary > known.stable, known.canary < known.stable
    certain = known.is_certain
    how = "as good as" if not better and not worse else "better than" if better else "worse than"
    doubt = "more than chance" if certain else "no more than chance makes"
    yield Finding(
        rule="accuracy",
        status="fail" if worse and certain else "pass",
        output="" if figures.accuracy_of is None else _name(figures.accuracy_of),
        figure=known.canary,
        bound=known.stable,
        sentence=f"accuracy {known.canary:.4f} is {how} the stable version's {known.stable:.4f} on {known.rows:,} "
        f"rows: {known.only_canary:,} rows right that were wrong, {known.only_stable:,} wrong that were right, "
        f"{doubt} (p = {known.p_value:.2g})",
    )


def _latency(figures: Figures, bounds: Bounds) -> Iterator[Finding]:
    pairs = len(figures.latency)
    for name, percent, needed in (("p50", 50.0, _MEDIAN_PAIRS), ("p99", 99.0, _TAIL_PAIRS)):
        ratio = figures.latency.ratio(percent)
        if ratio is None:
            yield Finding(rule=f"latency {name}", status="unknown", sentence=f"no latencies were measured for {name}")
            continue
        bound = bounds.max_latency_ratio
        is_enough = pairs >= needed
        status: Status = "unknown"
        if is_enough and ratio.low > bound:
            status = "fail"
        elif is_enough and ratio.high <= bound:
            status = "pass"
        doubt = "" if status != "unknown" else f", and {pairs} pairs of requests are too few or too unsteady to tell"
        yield Finding(
            rule=f"latency {name}",
            status=status,
            figure=ratio.value,
            bound=bound,
            sentence=f"{name} is {ratio.canary_s * 1e3:.2f} ms, the stable version's {ratio.stable_s * 1e3:.2f} ms: "
            f"{ratio.value:.2f} times (90 % interval {ratio.low:.2f} to {ratio.high:.2f}), at most {bound:g}{doubt}",
        )


def _weighed(
    figures: Figures,
    key: tuple[str, str],
    rule: str,
    figure: float,
    bound: float,
    sentence: str,
    *,
    fails: bool,
    is_few: bool,
    needed_rows: int = 0,
) -> Finding:
    """Decide a rule that compares with the stable version: too few rows are no finding, and a better version may."""
    status: Status = "pass"
    if fails and figures.is_better(key):
        sentence += "; passed all the same, since the canary is right significantly more often"
    elif fails and is_few:
        status, sentence = "unknown", f"{sentence}; too few rows to tell"
    elif fails:
        status = "fail"
    elif needed_rows:
        status, sentence = "unknown", f"{sentence}; too few rows to tell, that takes about {needed_rows:,}"
    return Finding(
        rule=rule,
        status=status,
        output=_name(key),
        figure=figure,
        bound=bound,
        sentence=sentence,
        needed_rows=needed_rows if status == "unknown" else 0,
    )


def _needed(rows: int, share: float) -> int:
    """Tell how many rows it takes until something that befalls this share of them shows; 0 where these are enough."""
    if share <= 0:  # no number is enough, and a single row fails the rule
        return 0
    needed = 1 if share >= 1 else math.ceil(math.log(1 - _SHOWN) / math.log(1 - share))
    return needed if rows < needed else 0


#: All rules, in the order in which they are shown.
RULES: tuple[Callable[[Figures, Bounds], Iterator[Finding]], ...] = (
    _promise,
    _signatures,
    _errors,
    _finite,
    _shapes,
    _agreement,
    _certainty,
    _drift,
    _classes,
    _accuracy,
    _latency,
)


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}/{key[1]}"


def _share(value: float) -> str:
    """Write a share; one below 100 % never rounds up to it."""
    text = f"{value:.2%}"
    return "<100%" if text == "100.00%" and value < 1 else text.replace(".00%", "%")


def _show_class(name: object) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."

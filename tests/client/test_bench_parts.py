"""The parts of a load test that only compute: moments, histogram, percentiles, the search, inputs, the target."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest

from tfbundle_client.bench.histogram import Histogram
from tfbundle_client.bench.inputs import draw_inputs, take_rows
from tfbundle_client.bench.load import Load, send_times
from tfbundle_client.bench.measurement import Measurement, Sample
from tfbundle_client.bench.sweep import Step, Verdict, highest, judge, limit, next_rate, step_duration_s
from tfbundle_client.bench.target import check_is_local
from tfbundle_client.bench.text import conclusion, notes
from tfbundle_client.transports.address import parse_address
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ConnectionFailed, InvalidArgument
from tfbundle_serving.apis.signatures import Signature, TensorSpec


def _measured(
    latencies_s: list[float], *, failed: int = 0, late: int = 0, load: Load | None = None, rate: float = 100.0
) -> Measurement:
    """Measure requests that were sent evenly, the failed ones at the end."""
    count = len(latencies_s) + failed
    load = load or Load(rate=rate, duration_s=count / rate, warm_up_s=0.0)
    measurement = Measurement(load)
    for number in range(count):
        at_s = load.warm_up_s + number / load.rate
        error = "" if number < len(latencies_s) else "UNAVAILABLE"
        took_s = latencies_s[number] if not error else 0.0
        lag_s = 0.002 if number < late else 0.0
        measurement.add(
            Sample(intended_s=at_s, sent_s=at_s + lag_s, ended_s=at_s + took_s, error=error, message="no more room")
        )
    return measurement


def test_an_even_load_is_sent_evenly_however_long() -> None:
    """Moments are multiples of the gap, without a drift, and cover the warm-up and the duration."""
    moments = list(send_times(Load(rate=300.0, duration_s=20.0, warm_up_s=10.0)))
    assert len(moments) == 9000
    assert moments[-1] == pytest.approx(8999 / 300, abs=1e-12)


def test_poisson_arrivals_have_exponential_gaps_and_a_seed() -> None:
    """The gaps have the rate's mean and a standard deviation as large; the seed decides them."""
    load = Load(rate=1000.0, arrivals="poisson", duration_s=20.0, warm_up_s=0.0, seed=3)
    moments = list(send_times(load))
    gaps = np.diff(np.array(moments))
    assert gaps.mean() == pytest.approx(1e-3, rel=0.03)
    assert gaps.std() == pytest.approx(1e-3, rel=0.05)
    assert moments == list(send_times(load))
    assert moments[0] != next(send_times(Load(rate=1000.0, arrivals="poisson", seed=4)))


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": math.inf}, {"concurrency": 0}, {"warm_up_s": -1.0}])
def test_a_load_that_cannot_be_sent_is_refused(wrong: dict[str, float]) -> None:
    """Settings are checked where they are written."""
    with pytest.raises(InvalidArgument):
        Load(**wrong)  # type: ignore[arg-type]


def test_the_histogram_keeps_three_digits_from_microseconds_to_minutes() -> None:
    """Every rank is within a thousandth of the sorted value, above it and never beyond the maximum."""
    draw = random.Random(1)
    values = sorted(10 ** draw.uniform(-6, 2) for _ in range(4000))
    histogram = Histogram()
    for value in draw.sample(values, len(values)):
        histogram.record(value)
    for rank in (1, 2, 17, 2000, 3600, 3999, 4000):
        assert values[rank - 1] * (1 - 1e-6) <= histogram.at_rank(rank) <= values[rank - 1] * 1.001 + 2e-9
    assert histogram.at_rank(4000) == histogram.max_s == values[-1]
    assert sum(count for _, count in histogram.buckets()) == histogram.count == 4000
    assert all(low[0] < high[0] for low, high in pairwise(histogram.buckets()))
    with pytest.raises(ValueError, match="rank 0"):
        histogram.at_rank(0)


def test_percentiles_that_the_sample_cannot_carry_are_withheld() -> None:
    """99 requests have no p99 and 999 no p99.9; the reason is said."""
    assert _measured([0.001] * 99).percentile(99.0) is None
    assert _measured([0.001] * 100).percentile(99.0) == pytest.approx(0.001, rel=1e-3)
    short = _measured([0.001] * 999)
    assert short.percentile(99.9) is None
    assert short.to_json()["withheld"] == {"p99.9": "needs 1000 requests, there were 999"}
    assert "p99.9 is not given: it needs 1000 requests, there were 999" in list(notes(short))
    assert _measured([0.001] * 1000).percentile(99.9) is not None


def test_failures_make_no_percentile_better() -> None:
    """A failed request counts as slower than every answered one."""
    measurement = _measured([0.001] * 985, failed=15)
    assert measurement.percentile(90.0) == pytest.approx(0.001, rel=1e-3)
    assert measurement.percentile(99.0) == math.inf
    document = measurement.to_json()
    assert document["latency_ms"]["p99"] == "failed"
    assert document["errors"] == {"UNAVAILABLE": {"count": 15, "first_message": "no more room"}}
    assert any("15 failed with UNAVAILABLE, first: no more room" in note for note in notes(measurement))


def test_the_warm_up_is_counted_apart() -> None:
    """A slow and failing warm-up leaves no trace in the figures but its own count."""
    load = Load(rate=10.0, duration_s=1.0, warm_up_s=1.0)
    measurement = Measurement(load)
    measurement.add(Sample(intended_s=0.5, sent_s=0.5, ended_s=0.9, error="INTERNAL"))
    measurement.add(Sample(intended_s=0.9, sent_s=0.9, ended_s=1.9))
    measurement.add(Sample(intended_s=1.0, sent_s=1.0, ended_s=1.01))
    assert (measurement.warm_up_requests, measurement.warm_up_failures, measurement.requests) == (2, 1, 1)
    assert measurement.latencies.max_s == pytest.approx(0.01)


def test_latency_counts_from_the_intended_moment_and_is_split() -> None:
    """What the generator held back is part of the latency, named as lag, and the send is late."""
    measurement = Measurement(Load(rate=10.0, duration_s=1.0, warm_up_s=0.0))
    measurement.add(Sample(intended_s=0.1, sent_s=0.15, ended_s=0.25, encode_s=0.01, decode_s=0.02))
    parts = {name: part.mean_s for name, part in measurement.parts.items()}
    assert parts == pytest.approx({"lag": 0.05, "encode": 0.01, "wait": 0.07, "decode": 0.02})
    assert measurement.latencies.max_s == pytest.approx(0.15)
    assert measurement.late == 1


def test_the_achieved_rate_counts_until_the_last_answer() -> None:
    """A backlog that is worked off after the end does not count as kept up."""
    measurement = _measured([0.001] * 99 + [1.0], rate=100.0)
    assert measurement.offered_rate == 100.0
    assert measurement.achieved_rate == pytest.approx(100 / 1.99)


def _search(holds_up_to: float, first: float) -> list[Step]:
    steps: list[Step] = []
    while (rate := next_rate(steps, first)) is not None:
        holds = rate <= holds_up_to
        steps.append(Step(rate, _measured([0.001] * 100), Verdict(holds, "" if holds else "p99 is above")))
    return steps


@pytest.mark.parametrize("first", [10.0, 700.0, 5000.0])
def test_the_search_finds_the_highest_rate_within_its_precision(first: float) -> None:
    """Doubling and halving end within 5 % below the true limit, from below and from above."""
    steps = _search(777.0, first)
    best, worst = highest(steps), limit(steps)
    assert best is not None
    assert worst is not None
    assert 777 / 1.05 <= best.rate <= 777 < worst.rate
    assert len(steps) <= 16
    assert "highest rate that keeps p99 within 5 ms" in conclusion(tuple(steps), 0.005)


def test_a_search_that_nothing_passes_ends() -> None:
    """Rates are halved down to one a second; then it is said that none holds."""
    steps = _search(0.1, 50.0)
    assert highest(steps) is None
    assert min(step.rate for step in steps) >= 1
    assert conclusion(tuple(steps), 0.005) == "no rate that was tried keeps p99 within 5 ms: p99 is above"


@pytest.mark.parametrize(
    ("measurement", "reason"),
    [
        (_measured([0.001] * 200), ""),
        (_measured([0.001] * 195 + [0.02] * 5), "p99 20 ms is above 10 ms"),
        (_measured([0.001] * 190, failed=10), "5.0% of the requests failed"),
        (_measured([0.001] * 50), "needs 100 requests"),
        (_measured([0.02] * 200, late=10), "the generator does not keep up"),
        (_measured([0.001] * 1000 + [1.0], rate=1000.0), "answered 500"),
    ],
    ids=["holds", "slow", "failing", "too few", "generator", "backlog"],
)
def test_a_step_is_judged_by_p99_failures_and_rate(measurement: Measurement, reason: str) -> None:
    """Each way not to hold has its reason, and the generator's own is told apart from the server's."""
    verdict = judge(measurement, 0.01)
    assert verdict.holds == (reason == "")
    assert reason in verdict.reason
    assert verdict.is_ours == ("generator" in reason)


def test_a_step_is_long_enough_for_its_percentile() -> None:
    """A low rate makes a step longer."""
    assert step_duration_s(1000.0, 5.0) == 5.0
    assert step_duration_s(10.0, 5.0) == 20.0


def test_inputs_are_drawn_by_the_signature() -> None:
    """Names, dtypes and shapes are the signature's, open batch sizes become the rows, and the seed decides."""
    inputs = {
        "image": TensorSpec(dtypes.FLOAT, (None, 2, 3)),
        "ids": TensorSpec(dtypes.INT64, (None, 4)),
        "text": TensorSpec(dtypes.STRING, (None,)),
        "flag": TensorSpec(dtypes.BOOL, ()),
        "wave": TensorSpec(dtypes.COMPLEX64, (None,)),
        "dropout": TensorSpec(dtypes.FLOAT, ()),
    }
    signature = Signature(inputs, {}, defaults={"dropout": b""})
    drawn = draw_inputs(signature, 5, seed=1)
    assert {name: (array.dtype.name, array.shape) for name, array in drawn.items()} == {
        "image": ("float32", (5, 2, 3)),
        "ids": ("int64", (5, 4)),
        "text": ("object", (5,)),
        "flag": ("bool", ()),
        "wave": ("complex64", (5,)),
    }
    assert set(drawn["ids"].ravel().tolist()) == {0, 1}
    assert all(isinstance(each, bytes) and len(each) == 8 for each in drawn["text"])
    again = draw_inputs(signature, 5, seed=1)
    assert all(np.array_equal(drawn[name], again[name]) for name in drawn)


def test_what_the_signature_leaves_open_is_asked_for() -> None:
    """A free dimension beside the batch's is not guessed."""
    with pytest.raises(InvalidArgument, match=r"'image' is float32 \(\?, \?, 3\).*--input"):
        draw_inputs(Signature({"image": TensorSpec(dtypes.FLOAT, (None, None, 3))}, {}), 1, 0)


def test_given_inputs_are_repeated_or_cut_to_the_rows() -> None:
    """Rows come round again when there are too few."""
    given = {"x": np.array([1, 2, 3])}
    assert take_rows(given, 5)["x"].tolist() == [1, 2, 3, 1, 2]
    assert take_rows(given, 2)["x"].tolist() == [1, 2]
    with pytest.raises(InvalidArgument, match="no rows"):
        take_rows({"x": np.array(1)}, 2)


@pytest.mark.parametrize(
    "url",
    ["grpc://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "unix:/tmp/s", "dns:///localhost:1",
     "grpc://127.0.0.2:1,localhost:2", "http://[::ffff:127.0.0.1]:1"],
)  # fmt: skip
def test_this_machine_may_be_loaded(url: str) -> None:
    """Loopback addresses of every form pass."""
    check_is_local(parse_address(url))


@pytest.mark.parametrize("url", ["grpc://192.0.2.7:1", "http://127.0.0.1:1,192.0.2.7:1", "dns:///192.0.2.7:1"])
def test_another_machine_may_not(url: str) -> None:
    """One remote server among several is enough for a refusal, in one line that names it."""
    with pytest.raises(InvalidArgument, match=r"192\.0\.2\.7.*--allow-remote") as caught:
        check_is_local(parse_address(url))
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_for_nothing_is_said_so() -> None:
    """It is no connection, not a remote machine."""
    with pytest.raises(ConnectionFailed, match="names no machine"):
        check_is_local(parse_address("http://name.invalid:1"))

"""The text that Prometheus reads."""

from __future__ import annotations

from tfbundle_serving.server.metrics import Counter, Histogram, Metrics


def test_a_counter() -> None:
    """One line for each combination of labels, quotes and line breaks escaped; the type line even without any."""
    counter = Counter(":a:b", "model_name", "status")
    assert list(counter.lines()) == ["# TYPE :a:b counter"]
    counter.add("m", "OK")
    counter.add("m", "OK", amount=2)
    counter.add('a"b\\\n', "OK")
    assert list(counter.lines())[1:] == [
        ':a:b{model_name="m",status="OK"} 3',
        ':a:b{model_name="a\\"b\\\\\\n",status="OK"} 1',
    ]
    bare = Counter(":c")
    bare.add()
    assert list(bare.lines())[1:] == [":c{} 1"]


def test_a_histogram() -> None:
    """Buckets are cumulative and end with +Inf; a value that equals a limit falls into the next one."""
    histogram = Histogram(":h", "m")
    for value in (5.0, 10.0, 1e12):
        histogram.observe(value, "x")
    lines = list(histogram.lines())
    assert lines[0] == "# TYPE :h histogram"
    assert lines[1:4] == [
        ':h_bucket{m="x",le="10"} 1',
        ':h_bucket{m="x",le="18"} 2',
        ':h_bucket{m="x",le="32.4"} 2',
    ]
    assert lines[-3:] == [':h_bucket{m="x",le="+Inf"} 3', ':h_sum{m="x"} 1e+12', ':h_count{m="x"} 3']
    assert len(lines) == 1 + 34 + 2


def test_all_names_are_shown_from_the_start() -> None:
    """A scrape before the first request already has the type lines."""
    text = Metrics().show().decode()
    for name in ("request_count counter", "request_latency histogram", "runtime_latency histogram"):
        assert f"# TYPE :tensorflow:serving:{name}\n" in text

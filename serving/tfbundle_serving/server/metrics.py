"""Counters and histograms, shown in Prometheus' text format under TensorFlow Serving's names.

    # TYPE :tensorflow:serving:request_count counter
    :tensorflow:serving:request_count{model_name="digits",status="OK"} 3

Source: tensorflow_serving/util/prometheus_exporter.cc; the metrics from servables/tensorflow/util.cc,
saved_model_warmup_util.cc and tensorflow/cc/saved_model/loader.cc.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

#: Upper limits in microseconds: 10 x 1.8^n, which ends at about 20 minutes.
_LIMITS_US = tuple(10.0 * 1.8**power for power in range(33))


class Counter:
    """A number that grows, one for each combination of labels."""

    def __init__(self, name: str, *labels: str) -> None:
        self._name = name
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: int = 1) -> None:
        """Let it grow."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# TYPE {self._name} counter"
        with self._lock:
            values = dict(self._values)
        for labels, value in values.items():
            yield f"{self._name}{{{_show(self._labels, labels)}}} {value}"


class Histogram:
    """How often a duration in microseconds fell between which limits, for each combination of labels."""

    def __init__(self, name: str, *labels: str) -> None:
        self._name = name
        self._labels = labels
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def observe(self, value_us: float, *labels: str) -> None:
        """Count a duration; one that equals a limit falls into the next bucket."""
        bucket = bisect_right(_LIMITS_US, value_us)
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._counts[labels] = [0] * (len(_LIMITS_US) + 1)
            counts[bucket] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value_us

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# TYPE {self._name} histogram"
        with self._lock:
            found = [(labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items()]
        for labels, counts, total in found:
            shown = _show(self._labels, labels)
            for limit, count in zip((*_LIMITS_US, float("inf")), accumulate(counts), strict=True):
                edge = "+Inf" if limit == float("inf") else f"{limit:g}"
                yield f'{self._name}_bucket{{{shown}{"," if shown else ""}le="{edge}"}} {count}'
            yield f"{self._name}_sum{{{shown}}} {total:g}"
            yield f"{self._name}_count{{{shown}}} {sum(counts)}"


def _show(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Everything that the server counts.

    Attributes:
        requests: Answers, by model and status.
        request_latency: Whole time of successful requests.
        runtime_latency: Time of the model runs in them.
        warmup_latency: Time of warm-ups.
        warmup_records: Requests replayed in them.
        load_attempts: Attempts to load a version folder.
        load_latency: Time that successful ones took.
    """

    def __init__(self) -> None:
        serving, saved_model = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        self.requests = Counter(f"{serving}request_count", "model_name", "status")
        self.request_latency = Histogram(f"{serving}request_latency", "model_name", "API", "entrypoint")
        self.runtime_latency = Histogram(f"{serving}runtime_latency", "model_name", "API", "runtime")
        self.warmup_latency = Histogram(f"{serving}model_warmup_latency", "model_path", "status")
        self.warmup_records = Counter(f"{serving}model_warmup_records_read", "model_path", "status")
        self.load_attempts = Counter(f"{saved_model}load_attempt_count", "model_path", "status")
        self.load_latency = Counter(f"{saved_model}load_latency", "model_path")

    def show(self) -> bytes:
        """Write everything as Prometheus reads it."""
        shown = (
            *(self.requests, self.request_latency, self.runtime_latency, self.warmup_latency),
            *(self.warmup_records, self.load_attempts, self.load_latency),
        )
        return "".join(f"{line}\n" for each in shown for line in each.lines()).encode("utf-8", "replace")

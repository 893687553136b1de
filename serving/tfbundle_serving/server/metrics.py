"""Counters and histograms, shown in Prometheus' text format under TensorFlow Serving's names.

    # TYPE :tensorflow:serving:request_count counter
    :tensorflow:serving:request_count{model_name="digits",status="OK"} 3

Source: tensorflow_serving/util/prometheus_exporter.cc; the metrics from servables/tensorflow/util.cc,
saved_model_warmup_util.cc and tensorflow/cc/saved_model/loader.cc.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from tfbundle_serving.apis.model_status import State, VersionStatus


def _exponential(first: float, growth: float, count: int) -> tuple[float, ...]:
    return tuple(first * growth**power for power in range(count))


#: Upper limits in microseconds: 10 x 1.8^n, which ends at about 20 minutes.
_LIMITS_US = _exponential(10.0, 1.8, 33)
#: The same for the wait in a batching queue, which ends at about a second.
_QUEUE_LIMITS_US = _exponential(100.0, 1.2, 52)
#: Upper limits of numbers of examples and rows.
_EXAMPLE_LIMITS = _exponential(1.0, 2.0, 15)
_ROW_LIMITS = _exponential(1.0, 2.0, 14)


class Counter:
    """A number that grows, one for each combination of labels."""

    kind = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()

    def add(self, *labels: str, amount: int = 1) -> None:
        """Let it grow."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            values = dict(self._values)
        for labels, value in values.items():
            yield f"{self.name}{{{_show(self._labels, labels)}}} {value}"

    def first_value(self) -> int:
        """Give the value of the combination of labels that comes first in order; 0 where there is none."""
        with self._lock:
            return self._values[min(self._values)] if self._values else 0


class Gauge(Counter):
    """A number that may also shrink."""

    kind = "gauge"


class Sampled:
    """Numbers that are looked up when they are shown.

    Attributes:
        read: Gives the numbers, by the labels' values.
    """

    kind = "gauge"

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self.read: Callable[[], Mapping[tuple[str, ...], int]] = dict
        self._labels = labels

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.read().items():
            yield f"{self.name}{{{_show(self._labels, labels)}}} {value}"


class Histogram:
    """How often a number fell between which limits, for each combination of labels.

    Args:
        name: The metric's name.
        labels: Names of its labels.
        limits: Upper limits of its buckets, microseconds unless the metric counts something else.
    """

    def __init__(self, name: str, *labels: str, limits: tuple[float, ...] = _LIMITS_US) -> None:
        self.name = name
        self._limits = limits
        self._labels = labels
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        """Count a number; one that equals a limit falls into the next bucket."""
        bucket = bisect_right(self._limits, value)
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._counts[labels] = [0] * (len(self._limits) + 1)
            counts[bucket] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        """Write it."""
        yield f"# TYPE {self.name} histogram"
        with self._lock:
            found = [(labels, list(counts), self._sums[labels]) for labels, counts in self._counts.items()]
        for labels, counts, total in found:
            shown = _show(self._labels, labels)
            for limit, count in zip((*self._limits, float("inf")), accumulate(counts), strict=True):
                edge = "+Inf" if limit == float("inf") else f"{limit:g}"
                yield f'{self.name}_bucket{{{shown}{"," if shown else ""}le="{edge}"}} {count}'
            yield f"{self.name}_sum{{{shown}}} {total:g}"
            yield f"{self.name}_count{{{shown}}} {sum(counts)}"


def version_states(models: Mapping[str, Iterable[VersionStatus]]) -> dict[tuple[str, ...], int]:
    """Say of each version of each model in which state it is: a 1 under (model, version, state).

    Versions that ended as they should are left out, since a server that runs for months has many of those: what is in
    END here could not be loaded.
    """
    return {
        (model, str(status.version), status.state.name): 1
        for model, statuses in models.items()
        for status in statuses
        if status.state is not State.END or status.error_code
    }


def _show(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class UnknownModels:
    """Names under which there is no model, and which are counted under all the same: as many as somebody mistypes.

    TensorFlow Serving counts under every name that is asked for, and so grows with whoever invents them.

    Args:
        most: Names that are kept.
        longest: Characters of a name that is kept.
    """

    def __init__(self, most: int = 1000, longest: int = 200) -> None:
        self._most = most
        self._longest = longest
        self._names: set[str] = set()

    def admit(self, name: str) -> str:
        """Give the name back, or "" where it is too long or one too many; what is not Unicode in it becomes "?"."""
        name = name.encode("utf-8", "replace").decode()
        if name in self._names:
            return name
        if len(name) > self._longest or len(self._names) >= self._most:
            return ""
        self._names.add(name)
        return name


class Metrics:
    """Everything that the server counts.

    Attributes:
        requests: Answers, by model and status.
        request_latency: Whole time of successful requests.
        runtime_latency: Time of the model runs in them.
        example_counts: Examples in a MultiInference request.
        examples: All of them together.
        logged_requests: Requests that a recorder chose, by model and what became of them.
        warmup_latency: Time of warm-ups.
        warmup_records: Requests replayed in them.
        queuing_latency: Time that requests waited to be joined, by thread pool, whose name is always empty.
        batch_runs: Runs of joined requests.
        padding_size: Rows added to a batch, by the size it was brought to.
        input_batch_size: Rows of a request that was to be joined.
        processed_batch_size: Rows of a batch that was run.
        graph_runs: Runs of a graph, warm-ups included.
        session_runs: The same; TensorFlow counts both.
        graph_run_time: Their time together, in microseconds.
        load_attempts: Attempts to load a version folder.
        load_latency: Time that successful ones took.
        versions: Processes in which a version is in a state; ours alone, since TensorFlow Serving shows no states.
        unknown_models: Which invented names of models may stand in a label.
    """

    def __init__(self) -> None:
        serving, saved_model = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        batching = f"{serving}batching_session:"
        self.requests = Counter(f"{serving}request_count", "model_name", "status")
        self.request_latency = Histogram(f"{serving}request_latency", "model_name", "API", "entrypoint")
        self.runtime_latency = Histogram(f"{serving}runtime_latency", "model_name", "API", "runtime")
        self.example_counts = Histogram(f"{serving}request_example_counts", "model", limits=_EXAMPLE_LIMITS)
        self.examples = Counter(f"{serving}request_example_count_total", "model")
        self.logged_requests = Counter(f"{serving}request_log_count", "model_name", "status")
        self.warmup_latency = Histogram(f"{serving}model_warmup_latency", "model_path", "status")
        self.warmup_records = Counter(f"{serving}model_warmup_records_read", "model_path", "status")
        self.queuing_latency = Histogram(f"{batching}queuing_latency", "thread_pool_name", limits=_QUEUE_LIMITS_US)
        self.batch_runs = Counter(f"{batching}wrapped_run_count")
        self.padding_size = Histogram(f"{batching}padding_size", "execution_batch_size", limits=_ROW_LIMITS)
        self.input_batch_size = Histogram(f"{batching}input_batch_size", limits=_ROW_LIMITS)
        self.processed_batch_size = Histogram(f"{batching}processed_batch_size", limits=_ROW_LIMITS)
        self.graph_runs = Counter(":tensorflow:core:graph_runs")
        self.session_runs = Counter(":tensorflow:core:direct_session_runs")
        self.graph_run_time = Counter(":tensorflow:core:graph_run_time_usecs")
        self.load_attempts = Counter(f"{saved_model}load_attempt_count", "model_path", "status")
        self.load_latency = Counter(f"{saved_model}load_latency", "model_path")
        self.versions = Sampled(":tfbundle:serving:versions", "model_name", "version", "state")
        self.unknown_models = UnknownModels()
        metrics: tuple[Counter | Histogram | Sampled, ...] = (
            *(self.requests, self.request_latency, self.runtime_latency, self.example_counts, self.examples),
            *(self.warmup_latency, self.warmup_records, self.queuing_latency, self.batch_runs, self.padding_size),
            *(self.input_batch_size, self.processed_batch_size, self.load_attempts, self.load_latency),
            *(self.graph_runs, self.session_runs, self.graph_run_time, self.versions),
            self.logged_requests,
            # The open-source server declares it and never counts it: a dashboard finds its name.
            Gauge(f"{serving}mlmd_map", "model_name", "version"),
        )
        self._shown = {metric.name: metric for metric in sorted(metrics, key=lambda metric: metric.name)}

    def count_run(self, took_s: float) -> None:
        """Count a run of a graph, whichever way it was asked for."""
        self.graph_runs.add()
        self.session_runs.add()
        self.graph_run_time.add(amount=round(took_s * 1e6))

    def show(self) -> bytes:
        """Write everything as Prometheus reads it, in the order of the names."""
        return "".join(f"{line}\n" for each in self._shown.values() for line in each.lines()).encode("utf-8", "replace")

    def first_value(self, name: str) -> int:
        """Give the first value of a counter, such as "/tensorflow/serving/request_count"; 0 where it is none."""
        metric = self._shown.get(name.replace("/", ":"))
        return metric.first_value() if isinstance(metric, Counter) else 0

"""What a run found: samples go in, counts, rates and percentiles come out. No clock, no I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .histogram import Histogram
from .load import Load

#: The percentiles that are reported, in percent, under their names.
PERCENTILES: dict[str, float] = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

#: A request that is sent later than that after its moment was held back by the generator: it is counted.
LATE_S = 0.001
#: With more late sends than that, the numbers say as much about the generator as about the server.
LATE_SHARE = 0.01

_MOST_WINDOWS, _SHORTEST_WINDOW_S = 60, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request; moments are seconds after the start of the warm-up.

    Attributes:
        intended_s: When it should be sent; a closed loop intends what it does.
        sent_s: When it was.
        ended_s: When its answer was decoded, or its failure known.
        error: The status of its failure, such as UNAVAILABLE; "" where it was answered.
        message: What the failure says.
        encode_s: Seconds to write the request.
        decode_s: Seconds to read the answer.
        request_bytes: Size of the request's body.
        response_bytes: Size of the answer's body.
        version: The version that answered; None where the answer does not say.
    """

    intended_s: float
    sent_s: float
    ended_s: float
    error: str = ""
    message: str = ""
    encode_s: float = 0.0
    decode_s: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    version: int | None = None


@dataclass(slots=True)
class Window:
    """A slice of the run, by the moments at which its requests should have been sent."""

    latencies: Histogram
    failures: int = 0


class Measurement:
    """Collects the samples of one run.

    The latency of a request counts from the moment at which it should have been sent to its decoded answer: when the
    server or the generator holds a request back, the time that it waited is part of what a user would have seen. A
    request that failed counts as slower than every one that was answered, so that no failure makes a percentile better.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.latencies = Histogram()
        self.encode = Histogram()
        self.wait = Histogram()
        self.decode = Histogram()
        self.lag = Histogram()
        self.errors: Counter[str] = Counter()
        #: The first message of each kind of error.
        self.messages: dict[str, str] = {}
        self.versions: Counter[int] = Counter()
        self.late = 0
        self.warm_up_requests = 0
        self.warm_up_failures = 0
        #: Requests without an answer when the run was interrupted.
        self.unanswered = 0
        self.was_interrupted = False
        #: The largest bodies.
        self.request_bytes = 0
        self.response_bytes = 0
        self.window_s = max(load.duration_s / _MOST_WINDOWS, _SHORTEST_WINDOW_S)
        self.windows: dict[int, Window] = {}
        self._end_s = 0.0

    def add(self, sample: Sample) -> None:
        """Count a request; those of the warm-up are counted apart and nothing else."""
        moment_s = sample.intended_s - self.load.warm_up_s
        if moment_s < 0:
            self.warm_up_requests += 1
            self.warm_up_failures += bool(sample.error)
            return
        lag_s = sample.sent_s - sample.intended_s
        self.late += lag_s > LATE_S
        self.lag.record(lag_s)
        self._end_s = max(self._end_s, sample.ended_s - self.load.warm_up_s)
        window = self.windows.setdefault(int(moment_s / self.window_s), Window(Histogram()))
        if sample.error:
            self.errors[sample.error] += 1
            self.messages.setdefault(sample.error, sample.message)
            window.failures += 1
            return
        latency_s = sample.ended_s - sample.intended_s
        self.latencies.record(latency_s)
        window.latencies.record(latency_s)
        self.encode.record(sample.encode_s)
        self.decode.record(sample.decode_s)
        self.wait.record(sample.ended_s - sample.sent_s - sample.encode_s - sample.decode_s)
        self.request_bytes = max(self.request_bytes, sample.request_bytes)
        self.response_bytes = max(self.response_bytes, sample.response_bytes)
        if sample.version is not None:
            self.versions[sample.version] += 1

    @property
    def failed(self) -> int:
        """Requests that were answered with an error, or not in time."""
        return sum(self.errors.values())

    @property
    def requests(self) -> int:
        """Requests that ended, answered or failed, without those of the warm-up."""
        return self.latencies.count + self.failed

    @property
    def failed_share(self) -> float:
        """Failed requests among all."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def late_share(self) -> float:
        """Requests that were sent late, among all."""
        return self.late / self.requests if self.requests else 0.0

    @property
    def offered_rate(self) -> float:
        """Requests a second that were sent, or should have been; in a closed loop it is not chosen, but found."""
        if self.load.is_open and self.load.arrivals == "constant":
            return self.load.rate
        return self.requests / self._sending_s

    @property
    def achieved_rate(self) -> float:
        """Requests a second that were answered, until the last one was."""
        return self.latencies.count / max(self._sending_s, self._end_s) if self._end_s else 0.0

    @property
    def _sending_s(self) -> float:
        if self.was_interrupted:
            return max(self._end_s, 1e-9)
        return self.load.duration_s

    def percentile(self, percent: float) -> float | None:
        """Give a percentile of the latencies in seconds.

        Returns:
            Infinity where it lies among the failed requests; None where the sample cannot carry it.
        """
        if self.why_not(percent):
            return None
        rank = math.ceil(round(self.requests * percent / 100, 6))
        return self.latencies.at_rank(rank) if rank <= self.latencies.count else math.inf

    def why_not(self, percent: float) -> str:
        """Say why the sample cannot carry a percentile; "" where it can.

        One request in so many lies above a percentile: with fewer than that it would be the maximum by another name.
        """
        needed = round(100 / (100 - percent))
        return f"needs {needed} requests, there were {self.requests}" if self.requests < needed else ""

    def to_json(self) -> dict[str, Any]:
        """Give everything but the machine as JSON values; a percentile among the failed requests is "failed"."""
        return {
            "load": {
                "kind": "open loop" if self.load.is_open else "closed loop",
                "rate": self.load.rate if self.load.is_open else None,
                "arrivals": self.load.arrivals if self.load.is_open else None,
                "concurrency": self.load.concurrency,
                "duration_s": self.load.duration_s,
                "warm_up_s": self.load.warm_up_s,
                "timeout_s": self.load.timeout_s,
                "seed": self.load.seed,
            },
            "requests": self.requests,
            "answered": self.latencies.count,
            "failed": self.failed,
            "errors": {
                name: {"count": count, "first_message": self.messages[name]}
                for name, count in self.errors.most_common()
            },
            "unanswered": self.unanswered,
            "was_interrupted": self.was_interrupted,
            "warm_up": {"requests": self.warm_up_requests, "failed": self.warm_up_failures},
            "offered_rate": self.offered_rate,
            "achieved_rate": self.achieved_rate,
            "latency_ms": {
                **{name: _percentile_to_json(self.percentile(each)) for name, each in PERCENTILES.items()},
                "max": _ms(self.latencies.max_s) if self.latencies.count else None,
                "mean": _ms(self.latencies.mean_s) if self.latencies.count else None,
                "counted_from": "the intended send time" if self.load.is_open else "the send",
            },
            "withheld": {name: why for name, each in PERCENTILES.items() if (why := self.why_not(each))},
            "late_sends": {
                "count": self.late,
                "share": self.late_share,
                "threshold_ms": _ms(LATE_S),
                "largest_ms": _ms(self.lag.max_s),
            },
            "mean_ms": {name: _ms(each.mean_s) for name, each in self.parts.items()},
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "versions": {str(version): count for version, count in sorted(self.versions.items())},
            "histogram_ms": [[_ms(end), count] for end, count in self.latencies.buckets()],
            "windows": [
                {
                    "from_s": round(number * self.window_s, 6),
                    "answered": each.latencies.count,
                    "failed": each.failures,
                    "p50_ms": _ms(each.latencies.at_rank(-(-each.latencies.count // 2)))
                    if each.latencies.count
                    else None,
                    "max_ms": _ms(each.latencies.max_s) if each.latencies.count else None,
                }
                for number, each in sorted(self.windows.items())
            ],
        }

    @property
    def parts(self) -> dict[str, Histogram]:
        """What a latency is made of: the generator's lag, writing, the server and the way there, reading."""
        return {"lag": self.lag, "encode": self.encode, "wait": self.wait, "decode": self.decode}


def _percentile_to_json(seconds: float | None) -> float | str | None:
    if seconds is None:
        return None
    return "failed" if math.isinf(seconds) else _ms(seconds)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 6)

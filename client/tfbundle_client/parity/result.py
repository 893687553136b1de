"""What a parity check found, as data: numbers for a program, one verdict for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import WORST, Comparison, Difference

from .ranking import TOP_K

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The reference inputs sent once, in requests of one size.

    Attributes:
        batch_size: Examples in a request; the last request may hold fewer.
        examples: How many examples were sent, from the first on.
        comparisons: Output name to comparison of all rows that were sent.
        latencies_s: Seconds of each request, from the call to the decoded answer.
        top_k_agreements: Output name to the share of rows with the same k best classes (see `parity_ranking`), for the
            outputs that have more classes than that.
        not_finite: Output name to how many NaNs and infinities were expected and how many were served.
    """

    batch_size: int
    examples: int
    comparisons: Mapping[str, Comparison]
    latencies_s: tuple[float, ...]
    top_k_agreements: Mapping[str, float] = field(default_factory=dict)
    not_finite: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(each.equal for each in self.comparisons.values())

    @property
    def examples_per_second(self) -> float:
        """Examples answered in a second, one request after the other."""
        total_s = sum(self.latencies_s)
        return self.examples / total_s if total_s else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportParity:
    """What one client saw.

    Attributes:
        url: Address of the server.
        transport: "gRPC", "REST" or "local".
        runs: One run a batch size, the smallest first.
        accuracy: Share of labels that the served version got right; None without labels.
        outputs: Output name to served array, of the run with the largest batch size.
    """

    url: str
    transport: str
    runs: tuple[Run, ...]
    accuracy: float | None = None
    outputs: Arrays = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_equal(self) -> bool:
        """Whether every output of every run is within its tolerance."""
        return all(run.is_equal for run in self.runs)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those of all runs and outputs."""
        return tuple(each for run in self.runs for each in run.comparisons.values())

    @property
    def max_abs_diff(self) -> float:
        """Largest absolute difference of any output at any batch size."""
        return max(each.max_abs_diff for each in self.comparisons)

    @property
    def max_rel_diff(self) -> float:
        """Largest relative difference of any output at any batch size."""
        return max(each.max_rel_diff for each in self.comparisons)

    @property
    def argmax_agreement(self) -> float | None:
        """Smallest share of rows with the same largest entry; None where no output has classes."""
        return min(
            (each.argmax_agreement for each in self.comparisons if each.argmax_agreement is not None), default=None
        )

    @property
    def top_k_agreement(self) -> float | None:
        """Smallest share of rows with the same k best classes; None where no output has more than k."""
        return min((share for run in self.runs for share in run.top_k_agreements.values()), default=None)

    @property
    def latencies_s(self) -> tuple[float, ...]:
        """Seconds of each request of the run with the smallest batch size."""
        return self.runs[0].latencies_s

    @property
    def examples_per_second(self) -> float:
        """Throughput of the run with the largest batch size."""
        return self.runs[-1].examples_per_second


@dataclass(frozen=True, slots=True)
class WorstValue:
    """One value that differs by more than is allowed.

    Attributes:
        name: Over which transport, as in `ParityReport.names`.
        batch_size: Examples in a request of the run.
        output: The output.
        difference: Where, and both values; the first number of its index is the row.
    """

    name: str
    batch_size: int
    output: str
    difference: Difference

    @property
    def distance(self) -> float:
        """By how much the values differ; infinite where they cannot be subtracted."""
        try:
            found = float(abs(self.difference.expected - self.difference.actual))
        except (TypeError, OverflowError):  # strings and bools; an integer beyond a float's range
            return math.inf
        return math.inf if math.isnan(found) else found


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Whether what is served equals what was trained.

    Attributes:
        model: Model name.
        version: The version that all requests were pinned to.
        signature: The signature that was called.
        reference: Where the expected answers come from.
        examples: How many examples the reference has.
        transports: What each client saw.
        accuracy_local: Share of labels that the expected answers got right; None without labels.
        noise_floor: Largest difference that the source model showed against itself at another batch size, where the
            exporter measured it; served differences of that order are not the server's doing.
        label_output: The output whose predictions the accuracies are of; None without labels.
        expected: Output name to expected array.
        expected_name: What the expected answers are called beside the served ones: "local" for those of the source
            model, "expected" for those of another served version.
        top_k: How many of the best classes `top_k_agreement` is about.
    """

    model: str
    version: int
    signature: str
    reference: str
    examples: int
    transports: tuple[TransportParity, ...]
    accuracy_local: float | None = None
    noise_floor: float | None = None
    label_output: str | None = None
    expected: Arrays = field(default_factory=dict, repr=False, compare=False)
    expected_name: str = "local"
    top_k: int = TOP_K

    @property
    def is_equal(self) -> bool:
        """Whether every transport's answers are within the tolerances."""
        return all(each.is_equal for each in self.transports)

    @property
    def verdict(self) -> str:
        """One word: "equal" or "differs"."""
        return "equal" if self.is_equal else "differs"

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each of `transports`: gRPC and REST, or the addresses where that does not tell them apart."""
        kinds = tuple(each.transport for each in self.transports)
        return kinds if len(set(kinds)) == len(kinds) else tuple(each.url for each in self.transports)

    @property
    def max_abs_diff(self) -> float:
        """Largest absolute difference over all transports."""
        return max(each.max_abs_diff for each in self.transports)

    @property
    def worst(self) -> tuple[WorstValue, ...]:
        """Up to five of the values that differ by more than is allowed, one of each place, the worst first."""
        found: dict[tuple[str, tuple[int, ...]], WorstValue] = {}
        for name, each in zip(self.names, self.transports, strict=True):
            for run in each.runs:
                for output, comparison in run.comparisons.items():
                    for difference in comparison.worst:
                        found.setdefault(
                            (output, difference.index), WorstValue(name, run.batch_size, output, difference)
                        )
        return tuple(sorted(found.values(), key=lambda each: -each.distance)[:WORST])

    def to_json(self) -> dict[str, Any]:
        """Give everything but the arrays as JSON values; what is not finite becomes None, its reason says why."""
        return {
            "model": self.model,
            "version": self.version,
            "signature": self.signature,
            "verdict": self.verdict,
            "reference": self.reference,
            "examples": self.examples,
            "accuracy_local": self.accuracy_local,
            "noise_floor": self.noise_floor,
            "top_k": self.top_k,
            "transports": [_transport_to_json(each) for each in self.transports],
        }


def _transport_to_json(parity: TransportParity) -> dict[str, Any]:
    return {
        "url": parity.url,
        "transport": parity.transport,
        "equal": parity.is_equal,
        "max_abs_diff": _finite(parity.max_abs_diff),
        "max_rel_diff": _finite(parity.max_rel_diff),
        "argmax_agreement": parity.argmax_agreement,
        "top_k_agreement": parity.top_k_agreement,
        "accuracy_served": parity.accuracy,
        "examples_per_second": _finite(parity.examples_per_second),
        "runs": [
            {
                "batch_size": run.batch_size,
                "examples": run.examples,
                "examples_per_second": _finite(run.examples_per_second),
                "outputs": {
                    name: {
                        **_comparison_to_json(each),
                        "top_k_agreement": run.top_k_agreements.get(name),
                        "not_finite": dict(zip(("expected", "served"), run.not_finite.get(name, (0, 0)), strict=True)),
                    }
                    for name, each in run.comparisons.items()
                },
                "latencies_s": list(run.latencies_s),
            }
            for run in parity.runs
        ],
    }


def _comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "equal": comparison.equal,
        "reason": comparison.reason,
        "max_abs_diff": _finite(comparison.max_abs_diff),
        "max_rel_diff": _finite(comparison.max_rel_diff),
        "argmax_agreement": comparison.argmax_agreement,
        "different": comparison.different,
        "size": comparison.size,
        "rtol": comparison.tolerance.rtol,
        "atol": comparison.tolerance.atol,
        "worst": [_difference_to_json(each) for each in comparison.worst],
    }


def _difference_to_json(difference: Difference) -> dict[str, Any]:
    return {
        "index": list(difference.index),
        "expected": _plain(difference.expected),
        "actual": _plain(difference.actual),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, (bool, int, str)) else str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""What a canary check found, as data: figures for a program, one verdict for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .evidence import Figures
from .figures import OutputFigures
from .latency import Ratio
from .verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReport:
    """Whether a version is fit to take the place of the stable one.

    Attributes:
        model: Model name.
        version: The canary.
        stable: The version that it was compared with.
        servers: Addresses that were asked; the first answered the requests.
        origin: Where the requests came from.
        figures: What was measured.
        verdict: What the rules say.
        rows: Rows in the requests that both versions answered.
        stable_failures: Requests that the canary alone answered.
        both_failed: Requests that neither version answered.
        skipped: Why requests were left out, and how many.
        was_cut_short: The canary failed so often that the rest was not asked.
        sizes: Version to the bytes of its folder, about what its weights take in memory; where the folder is known.
        takes_unlabelled: The canary is the highest version there, which requests without a label are answered by.
        seconds: How long it took.
    """

    model: str
    version: int
    stable: int
    servers: tuple[str, ...]
    origin: str
    figures: Figures
    verdict: Verdict
    rows: int
    stable_failures: int = 0
    both_failed: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    was_cut_short: bool = False
    sizes: Mapping[int, int] = field(default_factory=dict)
    takes_unlabelled: bool = False
    seconds: float = 0.0

    @property
    def is_promote(self) -> bool:
        """Whether no rule speaks against it."""
        return self.verdict.is_promote

    def to_json(self) -> dict[str, Any]:
        """Give everything but the single latencies as JSON values."""
        figures = self.figures
        accuracy = figures.accuracy
        return {
            "model": self.model,
            "version": self.version,
            "stable": self.stable,
            "verdict": self.verdict.word,
            "reasons": list(self.verdict.reasons),
            "findings": [each.to_json() for each in self.verdict.findings],
            "servers": list(self.servers),
            "inputs": self.origin,
            "requests": figures.requests,
            "rows": self.rows,
            "failures": {
                "canary": figures.canary_failures,
                "stable": self.stable_failures,
                "both": self.both_failed,
            },
            "skipped": dict(self.skipped),
            "was_cut_short": self.was_cut_short,
            "outputs": {f"{name}/{output}": _output(each) for (name, output), each in figures.outputs.items()},
            "accuracy": None
            if accuracy is None
            else {
                "rows": accuracy.rows,
                "stable": accuracy.stable,
                "canary": accuracy.canary,
                "only_stable": accuracy.only_stable,
                "only_canary": accuracy.only_canary,
                "p_value": accuracy.p_value,
            },
            "latency": {
                "pairs": len(figures.latency),
                "p50": _ratio(figures.latency.ratio(50.0)),
                "p99": _ratio(figures.latency.ratio(99.0)),
            },
            "bytes": {str(version): size for version, size in self.sizes.items()},
            "takes_unlabelled": self.takes_unlabelled,
            "seconds": self.seconds,
        }


def _output(figures: OutputFigures) -> dict[str, Any]:
    return {
        "kind": figures.kind,
        "rows": figures.rows,
        "agreement": figures.agreement,
        "equal_but_for_rounding": figures.identical,
        "sure": figures.sure,
        "flipped": figures.flipped,
        "not_finite": figures.not_finite,
        "mismatched": figures.mismatched,
        "class_shift": figures.class_shift,
        "mean_shift": _finite(figures.mean_shift),
        "mean_distance": _finite(figures.distance / figures.rows)
        if figures.kind == "values" and figures.rows
        else None,
    }


def _ratio(ratio: Ratio | None) -> dict[str, float] | None:
    if ratio is None:
        return None
    return {
        "stable_s": ratio.stable_s,
        "canary_s": ratio.canary_s,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

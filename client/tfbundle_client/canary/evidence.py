"""What the rules of a canary check are given, and what each of them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tfbundle_serving.apis.errors import InvalidArgument

from .accuracy import AccuracyFigures
from .figures import OutputFigures
from .latency import LatencyFigures

Status = Literal["pass", "fail", "unknown"]

#: Answers tell how sure a version is where it is of so many of them.
SURE_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is still good.

    Attributes:
        min_agreement: Smallest share of rows with the same answer; None means 0.9 where answers tell how sure the
            version is of them, and 0.95 where they do not.
        max_flipped: Largest share of the rows that the stable version is sure of (0.9) and the canary answers
            otherwise.
        max_class_shift: Largest share of rows by which the frequencies of the classes move.
        max_class_change: Largest share by which one class grows or shrinks.
        max_mean_shift: Largest shift of the mean of values, in units of the stable version's spread.
        max_latency_ratio: How many times the stable version's latency the canary's may be.
    """

    min_agreement: float | None = None
    max_flipped: float = 0.005
    max_class_shift: float = 0.05
    max_class_change: float = 0.5
    max_mean_shift: float = 0.1
    max_latency_ratio: float = 1.5

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can meet."""
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise InvalidArgument(f"min_agreement is a share between 0 and 1, got {self.min_agreement}", attempts=0)
        if not self.max_latency_ratio > 0:
            raise InvalidArgument(f"max_latency_ratio is a positive number, got {self.max_latency_ratio}", attempts=0)

    def agreement_for(self, figures: OutputFigures) -> float:
        """Choose the smallest agreement of an output."""
        if self.min_agreement is not None:
            return self.min_agreement
        return 0.9 if figures.sure >= SURE_ROWS else 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Whether what the canary serves equals what was trained.

    Attributes:
        is_equal: Whether it does; None where there was nothing to compare with.
        max_abs_diff: The largest difference.
        reason: What differs, or why nobody knows.
    """

    is_equal: bool | None
    max_abs_diff: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was measured.

    Attributes:
        promise: The canary against its own golden.npz.
        breaking: Changes of the signatures that a client of the stable version notices.
        outputs: (signature, output) to figures.
        requests: Requests that both versions answered.
        canary_failures: Requests that the stable version alone answered.
        first_failure: What the canary said to the first of them.
        accuracy: Where true classes are known.
        accuracy_of: The output that they are compared with.
        latency: Of the same requests with both.
    """

    promise: Promise
    breaking: Sequence[str] = ()
    outputs: Mapping[tuple[str, str], OutputFigures] = field(default_factory=dict)
    requests: int = 0
    canary_failures: int = 0
    first_failure: str = ""
    accuracy: AccuracyFigures | None = None
    accuracy_of: tuple[str, str] | None = None
    latency: LatencyFigures = field(default_factory=LatencyFigures)

    def is_better(self, key: tuple[str, str]) -> bool:
        """Whether the truth says that the canary's answers of an output are better, by more than chance."""
        known = self.accuracy
        return known is not None and key == self.accuracy_of and known.canary > known.stable and known.is_certain


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says.

    Attributes:
        rule: Its name.
        status: Whether it passes.
        sentence: Why, for a person.
        figure: What was measured; None where nothing was.
        bound: What it was held against.
        output: The signature and output that it is about, "" for all.
        needed_rows: How many rows would tell; 0 where there are enough.
    """

    rule: str
    status: Status
    sentence: str
    figure: float | None = None
    bound: float | None = None
    output: str = ""
    needed_rows: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "rule": self.rule,
            "status": self.status,
            "output": self.output,
            "figure": self.figure,
            "bound": self.bound,
            "needed_rows": self.needed_rows,
            "sentence": self.sentence,
        }

"""Promote or don't: a table of rules over measured figures, each with its figure, its bound and a sentence.

A rule passes, fails, or says that it does not know; one that fails is a "don't". The bounds were chosen by trying:
small CNNs on scikit-learn's digits (the demo's), 540 test images, each against a version that was trained longer, and
against itself with a few weights of the last layer changed.

    trained 3 to 12 epochs beside 16    93.3 to 98.9 % the same class, at most 0.3 % of the sure rows changed
    two seeds, 4 to 16 epochs each      95.4 to 99.4 %, at most 0.3 %
    1 to 20 weights of 640 changed,     71 to 98.7 %, at least 0.9 % of the sure rows, wherever the accuracy fell by
    by 4 to 8 standard deviations       more than one percentage point

So how many rows agree hardly tells a better version from a broken one, and which of them do tells nearly all: training
on changes what the old version was in doubt of, and a fault changes what it was sure of. Where answers do not tell how
sure a version is, agreement alone has to do, with a higher bound. Where the true classes are given, they have the last
word: a version that is right significantly more often may disagree as much as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .evidence import Bounds, Figures, Finding
from .rules import RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all rules say together.

    Attributes:
        findings: One a rule and output.
    """

    findings: tuple[Finding, ...]

    @property
    def is_promote(self) -> bool:
        """Whether no rule fails."""
        return all(each.status != "fail" for each in self.findings)

    @property
    def word(self) -> str:
        """The verdict in a word: "promote" or "don't"."""
        return "promote" if self.is_promote else "don't"

    @property
    def needed_rows(self) -> int:
        """How many rows it takes until every rule can tell; 0 where there are enough."""
        return max((each.needed_rows for each in self.findings), default=0)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not."""
        return tuple(each.sentence for each in self.findings if each.status == "fail")


def judge(figures: Figures, bounds: Bounds | None = None) -> Verdict:
    """Apply all rules."""
    chosen = bounds or Bounds()
    return Verdict(findings=tuple(finding for rule in RULES for finding in rule(figures, chosen)))

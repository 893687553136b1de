"""Labels of canaries that have had their day: a promotion or a rollback leaves them, since callers may use them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tfbundle_serving.apis.models_config_edit import find_model, read_models

from .history import Record, last_move
from .plan import Plan
from .rollback import ROLLBACK
from .staying import STABLE

#: The label that `tfbundle canary` gives unless told otherwise, and its name in the history.
CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A canary's label that nobody needs any more.

    Attributes:
        label: The label.
        why: Why it should go, in one clause.
    """

    label: str
    why: str


def find_leftovers(plan: Plan, records: Sequence[Record], missing: Collection[int] = ()) -> tuple[Leftover, ...]:
    """Find canaries' labels that mean the version that was promoted, or the one that was given up.

    Args:
        plan: The change that was made, or found made already.
        records: The history, oldest first, with that change.
        missing: Versions that no server has.
    """
    labels = find_model(read_models(plan.new), plan.model).labels
    last = last_move(records, plan.model, plan.label)
    left = last.before if last is not None and last.command == ROLLBACK and last.version == plan.version else plan.left
    return tuple(
        Leftover(label=label, why=_say_why(plan, label, version, missing))
        for label, version in sorted(labels.items())
        if label not in (plan.label, STABLE)
        and version in (plan.version, left)
        and _is_canary(records, plan.model, label)
    )


def _is_canary(records: Sequence[Record], model: str, label: str) -> bool:
    last = last_move(records, model, label)
    return label == CANARY or (last is not None and last.command == CANARY)


def _say_why(plan: Plan, label: str, version: int, missing: Collection[int]) -> str:
    means = f"label {label} of {plan.model} still means version {version}"
    if version == plan.version:
        return f"{means}, as {plan.label} does, and keeps it loaded when {plan.label} moves on"
    if version in missing:
        return f"{means}, which no server has loaded"
    is_highest = version == max(plan.wanted.difference(missing), default=None)
    return f"{means} and keeps it loaded" + (", and callers without a label reach it" if is_highest else "")

"""Rollback: a label goes back to the version that it meant before.

That is the version before the last promotion, however often it is asked for: twice is once, so that nervous fingers
do no harm. (`kubectl rollout undo` goes back to and fro, which brings the bad version back at the second call.) Further
back it goes by number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfbundle_serving.apis.errors import RolloutError

from .history import Record, last_move
from .staying import STABLE, say_drop

#: What the history calls a move that went back.
ROLLBACK = "rollback"


def choose_target(records: Sequence[Record], model: str, label: str, now: int | None, there: Sequence[int]) -> int:
    """Find the version that a label goes back to.

    Args:
        records: The history, oldest first.
        model: Model name.
        label: The label.
        now: Where the models.config lets it point.
        there: Versions that are on disk, for the message.

    Raises:
        RolloutError: The history does not tell; the message lists what could be chosen.
    """
    last = last_move(records, model, label)
    if last is None:
        raise RolloutError(f"the history knows of no move of label {label} of {model}; {_candidates(there, now)}")
    if last.version is None:
        meant = "" if last.before is None else f"; it meant version {last.before}"
        raise RolloutError(f"label {label} of {model} was taken away{meant}; {_candidates(there, now)}")
    if last.command == ROLLBACK:
        # Where it is not where the rollback left it, a promotion was cut short, or somebody wrote into the file.
        return last.version
    if now not in (last.version, last.before):
        return last.version
    if last.before is None:
        raise RolloutError(
            f"label {label} of {model} was new when it got version {last.version}; {_candidates(there, now)}"
            + ("" if label == STABLE else f"; `{say_drop(model, label)}` takes the label away")
        )
    return last.before


def check_there(
    version: int,
    model: str,
    there: Sequence[int] | None,
    records: Sequence[Record],
    trash: Collection[int] = (),
    now: int | None = None,
) -> None:
    """Refuse a version whose folder is gone.

    Args:
        version: The version.
        model: Model name.
        there: Versions that are on disk; None where nobody can tell.
        records: The history, oldest first.
        trash: Versions that are in the trash.
        now: Where the label points.

    Raises:
        RolloutError: It is; the message lists what could be chosen.
    """
    if there is None or version in there:
        return
    if version in trash:
        raise RolloutError(
            f"version {version} of {model} was pruned; `tfbundle prune BASE_PATH --restore {version}` brings it back "
            f"from the trash, or {_candidates(there, now)}; nothing was changed"
        )
    named = [each for record in reversed(records) if record.model == model for each in (record.version, record.before)]
    before = [each for each in dict.fromkeys(named) if each in there and each != now]
    known = f" (that had a label before: {', '.join(map(str, before))})" if before else ""
    gone = (
        f"version {version} of {model} is not on disk any more"
        if version in named
        else f"{model} has no version {version}"
    )
    raise RolloutError(f"{gone}; {_candidates(there, now)}{known}; nothing was changed")


def _candidates(there: Sequence[int], now: int | None) -> str:
    others = ", ".join(str(each) for each in sorted(there, reverse=True) if each != now) or "no other version"
    return f"--to VERSION names one: {others}"

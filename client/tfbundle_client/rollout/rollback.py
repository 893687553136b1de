"""Rollback: a label goes back to the version that it meant before.

That is the version before the last promotion, however often it is asked for: twice is once, so that nervous fingers
do no harm. (`kubectl rollout undo` goes back to and fro, which brings the bad version back at the second call.) Further
back it goes by number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfbundle_serving.apis.errors import RolloutError

from .history import Record, last_move

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
    if last.command == ROLLBACK:
        # Where it is not where the rollback left it, a promotion was cut short, or somebody wrote into the file.
        return last.version
    if now not in (last.version, last.before):
        return last.version
    if last.before is None:
        raise RolloutError(
            f"label {label} of {model} was new when it got version {last.version}; {_candidates(there, now)}"
        )
    return last.before


def check_there(
    version: int, model: str, there: Sequence[int] | None, records: Sequence[Record], trash: Collection[int] = ()
) -> None:
    """Refuse a version whose folder is gone.

    Args:
        version: The version.
        model: Model name.
        there: Versions that are on disk; None where nobody can tell.
        records: The history, oldest first.
        trash: Versions that are in the trash.

    Raises:
        RolloutError: It is; the message lists what could be chosen.
    """
    if there is None or version in there:
        return
    if version in trash:
        raise RolloutError(
            f"version {version} of {model} was pruned; `tfbundle prune BASE_PATH --restore {version}` brings it back "
            f"from the trash, or {_candidates(there, None)}; nothing was changed"
        )
    before = [each.version for each in reversed(records) if each.model == model and each.version in there]
    known = f" (that had a label before: {', '.join(map(str, dict.fromkeys(before)))})" if before else ""
    raise RolloutError(
        f"version {version} of {model} is not on disk any more; {_candidates(there, None)}{known}; nothing was changed"
    )


def _candidates(there: Sequence[int], now: int | None) -> str:
    others = ", ".join(str(each) for each in sorted(there, reverse=True) if each != now) or "no other version"
    return f"--to VERSION names one: {others}"

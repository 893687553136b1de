"""What to load and unload next."""

from __future__ import annotations

import pytest

from tfbundle_serving.apis.model_status import State
from tfbundle_serving.server.transitions import Steps, VersionSnapshot, next_steps

START, LOADING, AVAILABLE, UNLOADING, END = State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END


def snapshots(*versions: tuple[int, State, bool] | tuple[int, State, bool, str]) -> list[VersionSnapshot]:
    """Write versions as (number, state, is_aspired[, "busy" or "not due"])."""
    return [
        VersionSnapshot(
            version=each[0],
            state=each[1],
            is_aspired=each[2],
            is_due="not due" not in each[3:],
            is_busy="busy" in each[3:],
        )
        for each in versions
    ]


CASES: dict[str, tuple[list[VersionSnapshot], Steps]] = {
    "nothing known": ([], Steps()),
    "new versions load, the highest first": (
        snapshots((1, START, True), (3, START, True), (2, START, True)),
        Steps(load=(3, 2, 1)),
    ),
    "the old one stays while the new one loads": (
        snapshots((1, AVAILABLE, False), (2, LOADING, True, "busy")),
        Steps(),
    ),
    "the old one goes once the new one answers": (
        snapshots((1, AVAILABLE, False), (2, AVAILABLE, True)),
        Steps(unload=(1,)),
    ),
    "the old one stays when the new one failed": (snapshots((1, AVAILABLE, False), (2, END, True)), Steps()),
    "all go when none is aspired": (
        snapshots((1, AVAILABLE, False), (2, AVAILABLE, False)),
        Steps(unload=(1, 2)),
    ),
    "of two that are no longer aspired only the lower goes early": (
        snapshots((1, AVAILABLE, False), (2, AVAILABLE, False), (3, LOADING, True, "busy")),
        Steps(unload=(1,)),
    ),
    "a retry waits for its time": (snapshots((1, LOADING, True, "not due")), Steps()),
    "a retry begins when due": (snapshots((1, LOADING, True)), Steps(load=(1,))),
    "a version that is no longer wanted before it began just ends": (
        snapshots((1, START, False), (2, AVAILABLE, True)),
        Steps(forget=(1,)),
    ),
    "one that waits for its next attempt and is no longer wanted ends at once": (
        snapshots((1, LOADING, False, "not due")),
        Steps(forget=(1,)),
    ),
    "one that is being loaded is not forgotten under way": (snapshots((1, LOADING, False, "busy")), Steps()),
    "one that is going is left alone": (snapshots((1, UNLOADING, False)), Steps()),
}


@pytest.mark.parametrize("case", CASES)
def test_next_steps(case: str) -> None:
    """Each snapshot has one answer."""
    versions, steps = CASES[case]
    assert next_steps(versions) == steps
    assert next_steps(reversed(versions)) == steps


def test_a_pinned_version_stays() -> None:
    """It is not unloaded, whatever has taken its place; others are."""
    versions = snapshots((1, AVAILABLE, False), (2, AVAILABLE, False), (3, AVAILABLE, True))
    assert next_steps(versions, pinned={1}) == Steps(unload=(2,))


THRIFTY: dict[str, tuple[list[VersionSnapshot], Steps]] = {
    "the old one goes first": (snapshots((1, AVAILABLE, False), (2, START, True)), Steps(unload=(1,))),
    "the new one waits until it has gone": (snapshots((1, UNLOADING, False), (2, START, True)), Steps()),
    "and then loads": (snapshots((1, END, False), (2, START, True)), Steps(load=(2,))),
    "what is aspired stays": (snapshots((1, AVAILABLE, True), (2, START, True)), Steps(load=(2,))),
}


@pytest.mark.parametrize("case", THRIFTY)
def test_memory_before_availability(case: str) -> None:
    """Asked to unload first, no two versions of which one is not wanted hold memory."""
    versions, steps = THRIFTY[case]
    assert next_steps(versions, unload_first=True) == steps

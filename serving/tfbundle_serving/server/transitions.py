"""What to do next with the versions of one model: a pure function of their states.

Availability before thrift: a new version is loaded before an old one is unloaded, so that the model keeps answering.
For models of which two versions do not fit into memory there is the other order, which leaves a gap. Same snapshot,
same answer; nothing here does any I/O.

Source: tensorflow_serving/core/availability_preserving_policy.cc, resource_preserving_policy.cc.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from tfbundle_serving.apis.model_status import State


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSnapshot:
    """One version at one moment.

    Attributes:
        version: Its number.
        state: Its state.
        is_aspired: Whether it should be served.
        is_due: In START or LOADING: whether the time for a load (or the next attempt) has come.
        is_busy: Whether a load is under way, which is left to its end.
    """

    version: int
    state: State
    is_aspired: bool
    is_due: bool = True
    is_busy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What to do now.

    Attributes:
        load: Versions to load, the most wanted first.
        unload: Versions to unload, lowest first.
        forget: Versions that are no longer wanted and hold nothing: they just end.
    """

    load: tuple[int, ...] = ()
    unload: tuple[int, ...] = ()
    forget: tuple[int, ...] = ()


def next_steps(
    versions: Iterable[VersionSnapshot], *, pinned: Container[int] = (), unload_first: bool = False
) -> Steps:
    """Decide what to do with the versions of one model.

    New versions are loaded, highest first. A version that is no longer aspired is unloaded when an aspired one is
    AVAILABLE, or none is aspired, or a higher un-aspired version is AVAILABLE as well.

    Args:
        versions: All that are known.
        pinned: Versions that must not be unloaded yet.
        unload_first: Whether nothing is loaded as long as a version that is no longer aspired holds memory.
    """
    known = sorted(versions, key=lambda each: each.version)
    waiting = [each for each in known if each.state in (State.START, State.LOADING) and not each.is_busy]
    ready = [each for each in known if each.state is State.AVAILABLE]
    unwanted = [each.version for each in ready if not each.is_aspired]
    is_replaced = unload_first or any(each.is_aspired for each in ready) or not any(each.is_aspired for each in known)
    load = tuple(each.version for each in reversed(waiting) if each.is_aspired and each.is_due)
    is_full = unload_first and any(
        each.state in (State.AVAILABLE, State.UNLOADING) and not each.is_aspired for each in known
    )
    return Steps(
        load=() if is_full else load,
        unload=tuple(each for each in (unwanted if is_replaced else unwanted[:-1]) if each not in pinned),
        forget=tuple(each.version for each in waiting if not each.is_aspired),
    )

"""Requests that run together when a run takes long: nobody is held up, and each keeps its deadline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.serving.server.batching_version import FOREVER, JOINED, Version, asked, floats, ints
from tfbundle_serving.apis.errors import (
    DeadlineExceeded,
    ResourceExhausted,
)
from tfbundle_serving.server.runner import Runner


def test_a_slow_run_does_not_hold_up_the_others(batchable: Path) -> None:
    """Requests that came during a run that takes very long start after a moment of patience."""
    version = Version(batchable / "slow", JOINED)

    async def ask() -> None:
        slow = asyncio.ensure_future(version.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=1.5))
        while not version.servable.given:
            await asyncio.sleep(0)
        answer = await version.ask(n=ints([1]), x=floats([7]), timeout_s=2.0)
        assert answer["y"].tolist() == [7]
        assert not slow.done()
        with pytest.raises(DeadlineExceeded):
            await slow

    asyncio.run(ask())


def test_a_slow_model_leaves_threads_to_others(batchable: Path) -> None:
    """However many requests of a slow model wait, those of another model run."""
    slow, other = Version(batchable / "slow", JOINED), Version(batchable / "half", JOINED)
    slow.runner = other.runner = Runner(2)

    async def ask() -> None:
        waiting = []
        for _ in range(3):
            waiting.append(asyncio.ensure_future(slow.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=1.5)))
            await asyncio.sleep(0.1)
        assert (await other.ask(x=floats([2]), timeout_s=1.0))["y"].tolist() == [3]
        assert len(slow.servable.given) == 1
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineExceeded] * 3

    asyncio.run(ask())


def test_each_keeps_its_deadline(batchable: Path) -> None:
    """In one batch the impatient get DEADLINE_EXCEEDED in time, and the patient one waits on."""
    version = Version(batchable / "slow", JOINED)
    n = ints([400_000])

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        patient = asyncio.ensure_future(version.ask(n=n, x=floats([1])))
        for timeout_s in (0.05, 0.1, -1.0):
            with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
                await version.ask(n=n, x=floats([2]), timeout_s=timeout_s)
        assert loop.time() - begun < 1.0
        assert (await patient)["y"].tolist() == [1]

    asyncio.run(ask())


def test_who_gave_up_while_waiting_is_left_out(batchable: Path) -> None:
    """A request that expired or whose caller vanished before its batch began is not run; the queue says why."""
    version = Version(batchable / "slow", asked(num_batch_threads=1))
    n = ints([1])

    async def ask() -> None:
        slow = asyncio.ensure_future(version.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=0.5))
        while not version.servable.given:
            await asyncio.sleep(0)
        vanished = asyncio.ensure_future(version.ask(n=n, x=floats([1])))
        waiting = asyncio.ensure_future(version.ask(n=n, x=floats([2])))
        with pytest.raises(ResourceExhausted) as caught:
            await version.ask(n=n, x=floats([3]), timeout_s=0.05)
        assert caught.value.message == "Run() timeout exceeded while waiting in batching queue"
        vanished.cancel()
        with pytest.raises(DeadlineExceeded):
            await slow
        assert (await waiting)["y"].tolist() == [2]

    asyncio.run(ask())
    assert version.rows() == [1, 1]


def test_a_version_is_held_until_its_last_batch_has_run(batchable: Path) -> None:
    """Callers that gave up do not let a version go that still computes."""
    version = Version(batchable / "slow", JOINED)
    assert version.live.hold()

    async def ask() -> None:
        with pytest.raises(DeadlineExceeded):
            await version.ask(n=ints([400_000]), x=floats([1]), timeout_s=0.01)
        others = [asyncio.ensure_future(version.ask(n=ints([1]), x=floats([i]))) for i in range(3)]
        await asyncio.sleep(0)
        version.live.retire()
        version.live.release()
        assert not version.live.wait_drained(0.0)
        await asyncio.gather(*others)

    asyncio.run(ask())
    assert version.live.wait_drained(60.0)
    version.servable.close()

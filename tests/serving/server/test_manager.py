"""The states of versions: real models, loaded and unloaded in this process."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.serving.server.conftest import PATIENCE_S
from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.server.loading import VersionLoader
from tfbundle_serving.server.manager import Manager, VersionEvent
from tfbundle_serving.server.metrics import Metrics
from tfbundle_serving.server.settings import LoadSettings

X = {"x": np.array([2.0], np.float32)}


class Watched:
    """A running manager and what it published."""

    def __init__(self, settings: LoadSettings) -> None:
        self.events: list[tuple[str, int, str]] = []
        self.manager = Manager(VersionLoader(settings, Metrics()), settings, [self._note])
        self.manager.start()

    def _note(self, event: VersionEvent) -> None:
        self.events.append((event.model, event.status.version, event.status.state.name))

    def states(self, version: int, model: str = "m") -> list[str]:
        """List the states that a version came into, in order."""
        return [state for name, number, state in self.events if (name, number) == (model, version)]

    def state(self, version: int, model: str = "m") -> VersionStatus | None:
        """Give a version's state now."""
        return next((each for each in self.manager.status(model) if each.version == version), None)

    def wait(self, version: int, state: State, model: str = "m") -> None:
        """Wait until a version is in a state."""

        def is_there() -> bool:
            status = self.state(version, model)
            return status is not None and status.state is state

        assert self.manager.wait(is_there, timeout_s=PATIENCE_S), self.events

    def predict(self, spec: ModelSpec) -> float:
        """Call the version that a spec means."""
        live = self.manager.route(spec)
        try:
            return float(live.servable.run("serving_default", X, ("y",))["y"][0])
        finally:
            live.release()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Start managers that end with the test."""
    started: list[Watched] = []

    def start(**settings: float) -> Watched:
        watched = Watched(LoadSettings(**settings))  # type: ignore[arg-type]
        started.append(watched)
        return watched

    yield start
    for watched in started:
        assert watched.manager.stop(PATIENCE_S)


@pytest.fixture
def two(tiny_models: Path) -> Path:
    """A version that answers 3 for 2."""
    return tiny_models / "half_plus_two/123"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A version folder without anything in it."""
    folder = tmp_path / "broken"
    folder.mkdir()
    return folder


def test_a_life(watch: Callable[..., Watched], two: Path) -> None:
    """Every state is published once and in order, and an ended version stays listed."""
    watched = watch()
    watched.manager.aspire("m", {1: two})
    watched.wait(1, State.AVAILABLE)
    watched.manager.aspire("m", {})
    watched.wait(1, State.END)
    assert watched.states(1) == ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    assert watched.manager.status("m") == [VersionStatus(1, State.END)]


def test_a_version_that_comes_back_begins_anew(watch: Callable[..., Watched], two: Path) -> None:
    """The same number, aspired again, goes through all states in the same place."""
    watched = watch()
    for versions, state in (({1: two}, State.AVAILABLE), ({}, State.END), ({1: two}, State.AVAILABLE)):
        watched.manager.aspire("m", versions)
        watched.wait(1, state)
    assert watched.states(1)[-3:] == ["START", "LOADING", "AVAILABLE"]
    assert len(watched.manager.status("m")) == 1


def test_the_old_version_answers_until_the_new_one_does(
    watch: Callable[..., Watched], two: Path, half_plus_ten: Path
) -> None:
    """Traffic to the latest version moves at once, without a call that finds nothing."""
    watched = watch()
    watched.manager.aspire("m", {1: two})
    watched.wait(1, State.AVAILABLE)
    answers: list[float] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answers.append(watched.predict(ModelSpec("m")))

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(call) for _ in range(2)]
        watched.manager.aspire("m", {2: half_plus_ten})
        watched.wait(1, State.END)
        stop.set()
        for caller in callers:
            caller.result()
    assert set(answers) <= {3.0, 11.0}
    assert watched.predict(ModelSpec("m")) == 11.0
    moves = [event[1:] for event in watched.events]
    assert moves.index((2, "AVAILABLE")) < moves.index((1, "UNLOADING"))


def test_routing(watch: Callable[..., Watched], two: Path, half_plus_ten: Path) -> None:
    """The highest version by default, one by number, one by label; everything else in TensorFlow Serving's words."""
    watched = watch()
    watched.manager.aspire("m", {1: two, 2: half_plus_ten})
    watched.wait(1, State.AVAILABLE)
    watched.wait(2, State.AVAILABLE)
    watched.manager.set_labels("m", {"stable": 1, "ghost": 9})
    assert watched.predict(ModelSpec("m")) == 11.0
    assert watched.predict(ModelSpec("m", 1)) == 3.0
    assert watched.predict(ModelSpec("m", None, "stable")) == 3.0
    refused = {
        ModelSpec("n"): (NotFound, "Servable not found for request: Latest(n)"),
        ModelSpec("m", 3): (NotFound, "Servable not found for request: Specific(m, 3)"),
        ModelSpec("m", None, "ghost"): (NotFound, "Servable not found for request: Specific(m, 9)"),
        ModelSpec("m", None, "nope"): (InvalidArgument, "Unrecognized servable version label: nope"),
        ModelSpec(""): (InvalidArgument, "ModelSpec has no name specified."),
    }
    for spec, (error, text) in refused.items():
        with pytest.raises(error) as caught:
            watched.manager.route(spec)
        assert str(caught.value) == text


def test_a_label_keeps_its_version_until_the_new_one_answers(
    watch: Callable[..., Watched], two: Path, half_plus_ten: Path, broken: Path
) -> None:
    """Another version is ready and the policy drops the labelled one: it stays until the label can move."""
    watched = watch(retry_interval_s=3600.0)
    watched.manager.aspire("m", {1: two, 2: two})
    watched.wait(1, State.AVAILABLE)
    watched.wait(2, State.AVAILABLE)
    watched.manager.set_labels("m", {"stable": 1})
    stable = ModelSpec("m", None, "stable")
    watched.manager.set_labels("m", {"stable": 3})
    watched.manager.aspire("m", {2: two, 3: broken})
    assert watched.manager.wait(lambda: bool(watched.manager.failures("m")), timeout_s=PATIENCE_S)
    assert (watched.manager.labels("m"), watched.predict(stable)) == ({"stable": 1}, 3.0)
    shutil.copytree(half_plus_ten, broken, dirs_exist_ok=True)
    watched.manager.retry("m", 3)
    watched.wait(1, State.END)
    assert (watched.manager.labels("m"), watched.predict(stable)) == ({"stable": 3}, 11.0)


def test_unloading_first(watch: Callable[..., Watched], two: Path, half_plus_ten: Path) -> None:
    """Where memory is scarce the old version has ended before the new one begins to load."""
    watched = watch(unload_first=True)
    watched.manager.aspire("m", {1: two})
    watched.wait(1, State.AVAILABLE)
    watched.manager.set_labels("m", {"stable": 1})
    watched.manager.set_labels("m", {"stable": 2})
    watched.manager.aspire("m", {2: half_plus_ten})
    watched.wait(2, State.AVAILABLE)
    moves = [event[1:] for event in watched.events]
    assert moves.index((1, "END")) < moves.index((2, "LOADING"))
    assert watched.predict(ModelSpec("m", None, "stable")) == 11.0


def test_unloading_waits_for_those_who_hold(watch: Callable[..., Watched], two: Path) -> None:
    """A version in use is no longer found, but stays loaded until it is let go."""
    watched = watch()
    watched.manager.aspire("m", {1: two})
    watched.wait(1, State.AVAILABLE)
    live = watched.manager.route(ModelSpec("m"))
    watched.manager.aspire("m", {})
    watched.wait(1, State.UNLOADING)
    with pytest.raises(NotFound):
        watched.manager.route(ModelSpec("m"))
    assert live.servable.run("serving_default", X, ("y",))["y"].tolist() == [3.0]
    assert watched.state(1) == VersionStatus(1, State.UNLOADING)
    live.release()
    watched.wait(1, State.END)


def test_a_corrupt_version_ends_with_its_error(watch: Callable[..., Watched], two: Path, broken: Path) -> None:
    """The older version goes on answering, and the status keeps code and text of the failure."""
    watched = watch(max_retries=0)
    watched.manager.aspire("m", {1: two})
    watched.wait(1, State.AVAILABLE)
    watched.manager.aspire("m", {2: broken})
    watched.wait(2, State.END)
    assert watched.predict(ModelSpec("m")) == 3.0
    status = watched.state(2)
    assert status is not None
    assert status.error_code == NotFound.code
    assert "saved_model.pb" in status.error_message
    assert watched.states(2) == ["START", "LOADING", "END"]


def test_retries_block_nobody(watch: Callable[..., Watched], two: Path, broken: Path) -> None:
    """While one version waits an hour for its next attempt, others load, even with one thread."""
    watched = watch(max_retries=5, retry_interval_s=3600.0, load_threads=1)
    watched.manager.end_of_start()
    watched.manager.aspire("m", {1: broken})
    assert watched.manager.wait(lambda: bool(watched.manager.failures("m")), timeout_s=PATIENCE_S)
    watched.manager.aspire("n", {1: two})
    watched.wait(1, State.AVAILABLE, "n")
    assert watched.state(1) == VersionStatus(1, State.LOADING)
    watched.manager.aspire("m", {})
    watched.wait(1, State.END)


def test_every_retry_is_made(watch: Callable[..., Watched], broken: Path) -> None:
    """The first attempt and as many retries as allowed, with the wait between them; then END."""
    watched = watch(max_retries=2, retry_interval_s=0.2)
    begun = time.monotonic()
    watched.manager.aspire("m", {1: broken})
    watched.wait(1, State.END)
    assert time.monotonic() - begun >= 0.4


def test_a_retry_by_hand_begins_anew(watch: Callable[..., Watched], two: Path, broken: Path) -> None:
    """A failed version whose folder was completed can be tried again, without a restart."""
    watched = watch(max_retries=0)
    watched.manager.aspire("m", {1: broken})
    watched.wait(1, State.END)
    shutil.copytree(two, broken, dirs_exist_ok=True)
    watched.manager.retry("m", 1)
    watched.wait(1, State.AVAILABLE)
    assert watched.state(1) == VersionStatus(1, State.AVAILABLE)


def test_stopping_unloads_everything(two: Path) -> None:
    """After stop every version has ended, no thread is left, and nothing begins any more."""
    before = set(threading.enumerate())
    watched = Watched(LoadSettings())
    watched.manager.aspire("m", {1: two, 2: two})
    watched.wait(2, State.AVAILABLE)
    assert watched.manager.stop(PATIENCE_S)
    watched.manager.aspire("n", {1: two})
    assert {status.state for status in watched.manager.status("m")} == {State.END}
    assert watched.manager.models() == ["m"]
    assert set(threading.enumerate()) <= before

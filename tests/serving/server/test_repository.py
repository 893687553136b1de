"""What a look at base paths gives, and what the manager is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.server.conftest import PATIENCE_S
from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.apis.model_status import State
from tfbundle_serving.apis.version_policy import All, Specific
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server.loading import VersionLoader
from tfbundle_serving.server.manager import Manager
from tfbundle_serving.server.metrics import Metrics
from tfbundle_serving.server.repository import Repository, check_models_dir, list_models, look
from tfbundle_serving.server.settings import LoadSettings


@pytest.fixture
def manager() -> Iterator[Manager]:
    """A running manager that tries everything once."""
    settings = LoadSettings(max_retries=0)
    running = Manager(VersionLoader(settings, Metrics()), settings)
    running.start()
    yield running
    assert running.stop(PATIENCE_S)


def states(manager: Manager, model: str) -> dict[int, str]:
    """Give the states of a model's versions."""
    return {status.version: status.state.name for status in manager.status(model)}


def until(manager: Manager, model: str, wanted: dict[int, str]) -> None:
    """Wait until a model's versions are in these states."""
    assert manager.wait(lambda: states(manager, model) == wanted, timeout_s=PATIENCE_S), states(manager, model)


def make(base: Path, *names: str) -> Path:
    """Make empty folders below a base path."""
    for name in names:
        (base / name).mkdir(parents=True)
    return base


def test_which_versions_are_chosen(tmp_path: Path) -> None:
    """By name alone: whole numbers, padded ones too, nothing else; then the policy chooses."""
    base = make(tmp_path / "m", "1", "002", "20170111173521", "tmp-5", "5.denied", ".staging-7")
    plain = ModelConfig(name="m", base_path=str(base))
    assert look(plain).versions == {20170111173521: base / "20170111173521"}
    every = ModelConfig(name="m", base_path=str(base), policy=All())
    assert list(look(every).versions or ()) == [1, 2, 20170111173521]
    some = ModelConfig(name="m", base_path=str(base), policy=Specific(versions=(2, 9)))
    assert look(some).versions == {2: base / "002"}


def test_troubles_have_tensorflow_servings_words(tmp_path: Path) -> None:
    """A missing base path says nothing of versions; an empty one says that there are none."""
    missing = look(ModelConfig(name="m", base_path=str(tmp_path / "absent")))
    assert missing.versions is None
    assert missing.trouble.startswith(f"Could not find base path {tmp_path / 'absent'} for servable m")
    empty = look(ModelConfig(name="m", base_path=str(tmp_path)))
    assert empty.versions == {}
    assert "Did you forget to name your leaf directory as a number" in empty.trouble


def test_doubtful_names_are_said(tmp_path: Path) -> None:
    """Of two names for one number the last in sorted order is served; a version by number that is absent is named."""
    base = make(tmp_path / "m", "001", "1", "01", "7")
    seen = look(ModelConfig(name="m", base_path=f"file://{base}", policy=Specific(versions=(1, 9))))
    assert seen.versions == {1: base / "1"}
    assert seen.trouble.startswith("Version 9 of servable m, which was requested to be served as a 'specific' version")
    assert seen.trouble.endswith("001 and 01 and 1 all mean version 1 of servable m; 1 is served")
    assert look(ModelConfig(name="m", base_path=str(base))).trouble == ""


def test_models_of_a_directory(tmp_path: Path) -> None:
    """Every folder with a version folder is a model; files, hidden folders and empty ones are not."""
    make(tmp_path, "a/1", "b/x", ".hidden/1")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/1").touch()
    assert [model.name for model in list_models(tmp_path)] == ["a"]


def test_a_directory_without_models(tmp_path: Path) -> None:
    """It is named; one that is a base path itself is told apart, with the command that serves it."""
    with pytest.raises(NotFound, match=f"{tmp_path} has no model"):
        check_models_dir(tmp_path)
    with pytest.raises(NotFound, match="absent"):
        check_models_dir(tmp_path / "absent")
    make(tmp_path, "m/1")
    check_models_dir(tmp_path)
    with pytest.raises(NotFound, match=f"serve {tmp_path}, or --model_name=m --model_base_path={tmp_path / 'm'}"):
        check_models_dir(tmp_path / "m")


def test_a_missing_base_path_stops_nobody_else(manager: Manager, tiny_models: Path, tmp_path: Path) -> None:
    """TensorFlow Serving would emit nothing for any model."""
    models = [
        ModelConfig(name="absent", base_path=str(tmp_path / "absent")),
        ModelConfig(name="m", base_path=str(tiny_models / "half_plus_two")),
    ]
    Repository(manager, models=models).look_once()
    until(manager, "m", {123: "AVAILABLE"})


def test_a_base_path_that_vanishes_leaves_its_versions(manager: Manager, tiny_models: Path, tmp_path: Path) -> None:
    """A configured model goes on being served from memory; an emptied base path unloads it."""
    base = tmp_path / "m"
    shutil.copytree(tiny_models / "half_plus_two/123", base / "1")
    repository = Repository(manager, models=[ModelConfig(name="m", base_path=str(base))])
    repository.look_once()
    until(manager, "m", {1: "AVAILABLE"})
    shutil.rmtree(base)
    repository.look_once()
    assert states(manager, "m") == {1: "AVAILABLE"}
    base.mkdir()
    repository.look_once()
    until(manager, "m", {1: "END"})


def test_models_come_and_go_with_their_folders(manager: Manager, tiny_models: Path, tmp_path: Path) -> None:
    """In a models directory a new folder is a new model, and a removed one unloads its model."""
    shutil.copytree(tiny_models / "half_plus_two", tmp_path / "a")
    repository = Repository(manager, models_dir=tmp_path)
    repository.look_once()
    shutil.copytree(tiny_models / "half_plus_two", tmp_path / "b")
    repository.look_once()
    until(manager, "b", {123: "AVAILABLE"})
    shutil.rmtree(tmp_path / "a")
    repository.look_once()
    until(manager, "a", {123: "END"})
    assert states(manager, "b") == {123: "AVAILABLE"}


def test_a_half_written_version_is_served_once_it_is_whole(manager: Manager, tiny_models: Path, tmp_path: Path) -> None:
    """It fails, the older one answers, and when its folder changes it is tried again; unchanged it is not."""
    shutil.copytree(tiny_models / "half_plus_two/123", tmp_path / "m/1")
    repository = Repository(manager, models=[ModelConfig(name="m", base_path=str(tmp_path / "m"))])
    repository.look_once()
    until(manager, "m", {1: "AVAILABLE"})
    (tmp_path / "m/2").mkdir()
    repository.look_once()
    until(manager, "m", {1: "AVAILABLE", 2: "END"})
    repository.look_once()
    assert states(manager, "m") == {1: "AVAILABLE", 2: "END"}
    shutil.copytree(tiny_models / "half_plus_two/123", tmp_path / "m/2", dirs_exist_ok=True)
    repository.look_once()
    until(manager, "m", {1: "END", 2: "AVAILABLE"})


def test_polling(manager: Manager, tiny_models: Path, tmp_path: Path) -> None:
    """The thread looks at intervals, survives the directory's absence, and ends."""
    repository = Repository(manager, models_dir=tmp_path / "models", poll_interval_s=0.05)
    repository.start()
    shutil.copytree(tiny_models / "half_plus_two", tmp_path / "models/m")
    until(manager, "m", {123: State.AVAILABLE.name})
    repository.stop()

"""A day of rollouts, as the person on call would live it: every step is a command, and callers never notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.docker.compose_project import engine_answers
from tests.end_to_end.commands import fail, succeed
from tests.end_to_end.rehearsal_stage import Container, Embedded, Operator, Stage, Traffic, copy_with_a_flipped_bit
from tfbundle.demo.training import build_model, load_digits
from tfbundle_exporter import export_model

pytestmark = pytest.mark.timeout(600)

CONFIG = """# What this site serves. Kept by hand, and by `tfbundle promote`.
model_config_list {
  config {
    name: "digits"  # scikit-learn's handwritten digits
    base_path: "%s"
    model_platform: "tensorflow"
  }
}
"""


@dataclass(frozen=True)
class Releases:
    """Versions that wait to be rolled out.

    Attributes:
        base_path: They lie in it under their numbers: 1, 2 that is better, 3 whose weights are subtly broken.
        images: Test images, (?, 8, 8, 1).
        labels: Their true classes, (?,).
    """

    base_path: Path
    images: NDArray[Any]
    labels: NDArray[Any]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Train once, and again, and break a copy of the last layer a little."""
    import keras

    base = tmp_path_factory.mktemp("releases") / "digits"
    images, labels, test_images, test_labels = load_digits()
    keras.utils.set_random_seed(1)
    model = build_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    for epochs in (3, 6):
        model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0)
        export_model(model, base, example_inputs=test_images[:64])
    kernel, bias = model.get_layer("probabilities").get_weights()
    kernel[:, 3] *= 0.6
    model.get_layer("probabilities").set_weights([kernel, bias])
    export_model(model, base, example_inputs=test_images[:64])
    return Releases(base, test_images, test_labels)


STAGES = [
    Embedded,
    pytest.param(
        Container,
        marks=[
            pytest.mark.docker,
            pytest.mark.skipif(not engine_answers(), reason="no Docker engine with compose v2 answers here"),
        ],
    ),
]


@pytest.fixture(params=STAGES)
def operator(
    request: pytest.FixtureRequest, releases: Releases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """A running server with version 1 alone."""
    site = tmp_path_factory.mktemp("site")
    models, config, recorded = site / "models", site / "config" / "models.config", site / "recorded.tfrecord"
    (models / "digits").mkdir(parents=True)
    config.parent.mkdir()
    for folder in (site, models, models / "digits", config.parent):
        folder.chmod(0o755)
    succeed("push", releases.base_path / "1", models / "digits")
    make: Callable[[Path, Path, Path], Stage] = request.param
    stage = make(models, config, recorded)
    config.write_text(CONFIG % stage.base_path)
    config.chmod(0o644)
    with ExitStack() as stack:
        yield Operator(stage, models, config, stack)


def test_a_day_of_rollouts(operator: Operator, releases: Releases, tmp_path: Path) -> None:
    """Promote, canary, promote under load, refuse what is broken or corrupt, survive a kill, roll back, prune."""
    np.save(tmp_path / "images.npy", releases.images)
    np.save(tmp_path / "labels.npy", releases.labels)
    asked = ("--inputs", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")

    operator.rolls("promote", 1)
    assert operator.answering() == 1

    # Version 2 is better: the canary says so, and it takes over while callers call.
    succeed("push", releases.base_path / "2", operator.base_path)
    with Traffic(operator.url, releases.images) as traffic:
        assert operator.rolls("canary", 2, *asked)["verdict"] == "promote"
        assert set(traffic.versions) == {1}
        operator.rolls("promote", 2)
        seen = len(traffic.versions)
        while len(traffic.versions) < seen + 20 and not traffic.failed:
            time.sleep(0.01)
    assert not traffic.failed
    assert traffic.versions == sorted(traffic.versions)
    assert traffic.versions[-1] == 2

    # Version 3 keeps its own promise and is worse all the same; it goes, and the configuration is as it was.
    succeed("push", releases.base_path / "3", operator.base_path)
    before = operator.config.read_text()
    refused = operator.rolls("canary", 3, *asked, code=1)
    assert refused["verdict"] == "don't"
    assert any(reason["status"] == "fail" and reason["figure"] is not None for reason in refused["findings"])
    assert operator.config.read_text() == before
    assert operator.answering() == 2

    # Version 4 was damaged on its way: it never gets there.
    damaged = copy_with_a_flipped_bit(releases.base_path / "2", tmp_path / "4")
    line = fail("push", damaged, operator.base_path)
    assert "variables" in line
    assert sorted(path.name for path in operator.base_path.iterdir() if path.name.isdigit()) == ["1", "2", "3"]

    # The server dies in the middle of a promotion: the file is whole, and the old one or the new one.
    for delay_s in (0.3, 0.8):
        code = operator.killed_while("promote", 3, delay_s=delay_s)
        text = operator.config.read_text()
        operator.restart()
        if code:
            assert text == before, text
            assert operator.answering() == 2
        else:
            assert text != before
            assert operator.answering() == 3
            operator.rolls("rollback")

    # Back to version 2 or 1, whichever was before, at once.
    operator.rolls("promote", 3)
    begun = time.monotonic()
    operator.rolls("rollback")
    assert time.monotonic() - begun < 10
    assert operator.answering() == 2

    served = succeed("prune", operator.base_path, "--keep", 1, "--server", operator.url, "--config", operator.config)
    assert (operator.base_path / "2").exists(), served
    assert operator.answering() == 2

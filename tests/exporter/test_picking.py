"""Which checkpoint of a training's folder is meant, told by names, by metadata, or asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfbundle_exporter.sources.checkpoint_folder import choose
from tfbundle_exporter.sources.checkpoint_names import direction_of, read_names
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

HDF5 = b"\x89HDF\r\n\x1a\n"


def folder_of(folder: Path, names: Iterable[str]) -> Path:
    """Fill a folder with files that begin like models, each a second newer than the one before."""
    folder.mkdir(exist_ok=True)
    for second, name in enumerate(names):
        (folder / name).write_bytes(HDF5)
        os.utime(folder / name, (1_700_000_000 + second, 1_700_000_000 + second))
    return folder


def test_a_real_training(tf_keras: Any, keras: Any, tmp_path: Path) -> None:
    """What ModelCheckpoint of both Kerases and BackupAndRestore leave is told apart and picked from."""
    x, y = np.ones((4, 2), np.float32), np.zeros((4, 1), np.float32)

    def train(k: Any, *callbacks: Any) -> None:
        model = k.Sequential([k.layers.Input((2,)), k.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, y, epochs=3, validation_data=(x, y), verbose=0, callbacks=list(callbacks))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = tmp_path / "files"
        train(
            keras,
            keras.callbacks.ModelCheckpoint(files / "m-{epoch:02d}-val_loss{val_loss:.6f}.keras"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        )
        folders, weights = tmp_path / "folders", tmp_path / "weights"
        train(
            tf_keras,
            tf_keras.callbacks.ModelCheckpoint(str(folders / "{epoch:02d}")),
            tf_keras.callbacks.ModelCheckpoint(str(weights / "cp-{epoch:04d}.ckpt"), save_weights_only=True),
        )
    best = identify(files, pick="best").picked
    assert best is not None
    assert best.metric is not None
    values = {path.name: float(path.stem.partition("val_loss")[2]) for path in files.iterdir()}
    assert best.name == min(values, key=lambda name: values[name])
    assert best.metric == ("val_loss", values[best.name])
    assert identify(files, pick="latest").path.name.startswith("m-03")
    assert identify(files, pick="epoch=2").path.name.startswith("m-02")
    backup = identify(tmp_path / "backup")
    assert (backup.kind, backup.picked and backup.picked.epoch) == ("weights_v3", 3)
    assert identify(folders, pick="epoch=1").path == folders / "01"
    assert identify(weights, pick="epoch=1").path == weights / "cp-0001.ckpt"
    assert identify(weights).path == weights / "cp-0003.ckpt"
    with pytest.raises(ExportError, match=r"folders is a base path with 3 versions.*the newest is \S+/03"):
        identify(folders)


@pytest.mark.parametrize(
    ("names", "pick", "expected", "reason"),
    [
        (["m-1.h5", "m-2.h5", "m-10.h5"], "latest", "m-10.h5", "the highest epoch, 10"),
        (["m-10.h5", "m-2.h5"], "epoch=2", "m-2.h5", "epoch 2"),
        (["a.h5", "z.h5", "b.h5"], "latest", "b.h5", "the newest by its time, 2023-11-14 22:13:22 UTC"),
        (["m-9.h5", "last.h5"], "latest", "last.h5", "the newest by its time"),
        (["w.05-0.31.keras", "w.06-0.29.keras"], "best:min", "w.06-0.29.keras", "the smallest value in a name, 0.29"),
        (["w.05.0.31.keras", "w.06.0.29.keras"], "best:max", "w.05.0.31.keras", "the largest value"),
        (["m-01-acc0.8.h5", "m-02-acc0.9.h5"], "best", "m-02-acc0.9.h5", "the largest acc, 0.9"),
        (["m-01-loss=0.8.h5", "m-02-loss=0.9.h5"], "best", "m-01-loss=0.8.h5", "the smallest loss, 0.8"),
        (["m_1_val_f1_0.5.h5", "m_2_val_f1_0.6.h5"], "best", "m_2_val_f1_0.6.h5", "the largest val_f1, 0.6"),
        (["e1-score-0.5.h5", "e2-score--0.6.h5"], "best", "e1-score-0.5.h5", "the largest score, 0.5"),
        (["m-1-loss0.10.h5", "m-2-loss0.10.h5"], "best", "m-2-loss0.10.h5", "the smallest loss, 0.1, the latest of 2"),
        (["m-1-loss-nan.h5", "m-2-loss-0.5.h5"], "best", "m-2-loss-0.5.h5", "the smallest loss, 0.5"),
        (
            ["m-1-loss0.2-val_loss0.9.h5", "m-2-loss0.1-val_loss0.95.h5"],
            "best",
            "m-1-loss0.2-val_loss0.9.h5",
            "val_loss",
        ),
        (["m-1-loss0.2-acc0.9.h5", "m-2-loss0.3-acc0.95.h5"], "best:acc", "m-2-loss0.3-acc0.95.h5", "the largest acc"),
        (["resnet50-v1.2-e01-0.5.h5", "resnet50-v1.2-e02-0.4.h5"], "epoch=2", "resnet50-v1.2-e02-0.4.h5", "epoch 2"),
        (["resnet50-v1.2-e01-0.5.h5", "resnet50-v1.2-e02-0.4.h5"], "best:max", "resnet50-v1.2-e01-0.5.h5", "0.5"),
        (["batch2-epoch1.h5", "batch1-epoch2.h5"], "epoch=1", "batch2-epoch1.h5", "epoch 1"),
        (["best_model.h5", "final_model.h5"], "best", "best_model.h5", "the one that is called so"),
        (["model.h5"], "", "model.h5", "the only one there"),
        (["model.h5"], "latest", "model.h5", "the newest by its time"),
    ],
)
def test_picks(names: list[str], pick: str, expected: str, reason: str, tmp_path: Path) -> None:
    """Epochs and metrics are read from names as people's templates make them, and the reason is told."""
    path, picked = choose(folder_of(tmp_path / "d", names), pick)
    assert path.name == expected
    assert reason in picked.reason


@pytest.mark.parametrize(
    ("names", "pick", "expected"),
    [
        (["a.h5", "b.keras"], "", r"holds 2 models: a\.h5, b\.keras; choose with --pick latest\|best\|epoch=N"),
        (["m-1.h5", "m-2.h5"], "epoch=3", "holds no epoch 3; there are 1, 2"),
        (["a.h5", "b.h5"], "epoch=3", r"no name tells an epoch: a\.h5, b\.h5"),
        (["m-1.h5", "m-1.weights.h5"], "epoch=1", r"holds 2 of epoch 1: m-1\.h5, m-1\.weights\.h5; give one"),
        (["m-1.h5", "m-2.h5"], "best", "no name tells a metric"),
        (["m-03-0.87.hdf5", "m-04-0.91.hdf5"], "best", "--pick best:max or --pick best:min"),
        (["m-1-size0.5.h5", "m-2-size0.6.h5"], "best", "a larger or a smaller size is better is not known"),
        (
            ["m-1-loss0.2-acc0.9.h5", "m-2-loss0.3-acc0.8.h5"],
            "best",
            r"2 metrics \('loss', 'acc'\).*--pick best:METRIC",
        ),
        (["m-1-acc0.2.h5", "m-2-acc0.3.h5"], "best:auc", "no name tells a metric 'auc'; they tell 'acc'"),
        (["m-1-loss-nan.h5", "m-2-loss-nan.h5"], "best", "no loss in the names is a number"),
        (["a.h5"], "newest", "expected latest, best, best:max, best:min, best:METRIC or epoch=N"),
        (["a.h5"], "epoch=two", "expected latest"),
        (["a.h5"], "epoch", "expected latest"),
        (["a.h5"], "latest:max", "expected latest"),
        ([], "latest", "is a folder without a model"),
    ],
)
def test_picks_that_are_not_clear(names: list[str], pick: str, expected: str, tmp_path: Path) -> None:
    """What is not clear is not guessed at; the message lists what there is and the ways to say it."""
    folder = folder_of(tmp_path / "d", names)
    with pytest.raises(ExportError, match=expected) as caught:
        choose(folder, pick)
    assert "\n" not in str(caught.value)


def test_a_pick_where_there_is_nothing_to_pick(tmp_path: Path, keras: Any) -> None:
    """--pick at a single file is a misunderstanding that is worth a word."""
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "m.keras")
    with pytest.raises(ExportError, match=r"is one model, m\.keras .*leave it out"):
        identify(tmp_path / "m.keras", pick="best")


def test_a_folder_above_the_right_one(tmp_path: Path) -> None:
    """Where the models lie one folder deeper, that one is named."""
    folder_of(tmp_path / "run", [])
    folder_of(tmp_path / "run" / "checkpoints", ["m-1.h5", "m-2.h5"])
    with pytest.raises(ExportError, match=r"without a model.*; \S+/run/checkpoints would do"):
        identify(tmp_path / "run")


def test_what_is_no_candidate(tmp_path: Path) -> None:
    """Logs, hidden files and backups of backups do not make a choice unclear."""
    folder = folder_of(tmp_path / "d", ["m.h5", ".m.h5.swp"])
    (folder / "training.log").write_text("epoch,loss\n0,0.5\n")
    (folder / "logs").mkdir()
    assert choose(folder, "")[0] == folder / "m.h5"


def test_metrics_in_training_metadata(tmp_path: Path) -> None:
    """Numbers that training_metadata.json tells besides the epoch are the backup's metrics."""
    folder = folder_of(tmp_path / "d", ["latest.weights.h5"])
    (folder / "training_metadata.json").write_text('{"epoch": 7, "batch": 0, "val_loss": 0.25}')
    _, picked = choose(folder, "best")
    assert (picked.epoch, picked.metric) == (7, ("val_loss", 0.25))
    (folder / "training_metadata.json").write_text("[]")
    assert choose(folder, "latest")[1].epoch is None


def test_many_candidates_are_counted(tmp_path: Path) -> None:
    """A long list is cut."""
    folder = folder_of(tmp_path / "d", [f"m-{epoch:03d}.h5" for epoch in range(200)])
    with pytest.raises(ExportError, match=r"holds 200 models: m-000\.h5, .* and 188 more"):
        choose(folder, "")


def test_names_of_two_templates_are_read_apart() -> None:
    """A number is compared with those of its own template only."""
    names = read_names(["a-1-0.5.h5", "a-2-0.4.h5", "vgg16.h5"])
    assert names["a-2-0.4.h5"].epoch == 2
    assert names["vgg16.h5"].epoch is None


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_loss", "min"),
        ("mean_absolute_error", "min"),
        ("mse", "min"),
        ("val_sparse_categorical_accuracy", "max"),
        ("acc", "max"),
        ("auc", "max"),
        ("f1", "max"),
        ("accelerometer", None),
        ("", None),
    ],
)
def test_directions(metric: str, direction: str | None) -> None:
    """Which way is better is told by words, not by parts of words."""
    assert direction_of(metric) == direction

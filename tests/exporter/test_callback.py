"""ExportCallback in `fit` of both Kerases: when it exports, what it says of it, and that training never notices."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import Serve
from tfbundle_exporter.callback import ExportCallback
from tfbundle_exporter.training.improvement import Improvement
from tfbundle_exporter.training.untouched import untouched
from tfbundle_serving.apis.errors import ExportError

_ROWS = 40


def _data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x = np.random.default_rng(0).normal(size=(_ROWS, 4)).astype(np.float32)
    return x, (x.sum(1) > 0).astype(np.int64)


def _model(k: Any) -> Any:
    """Build a model whose training depends on seeds, on moving averages and on the optimizer's memory."""
    k.utils.set_random_seed(11)
    layers = [
        k.layers.Input((4,), name="x"),
        k.layers.Dense(8, activation="relu"),
        k.layers.BatchNormalization(),
        k.layers.Dropout(0.5),
        k.layers.Dense(2, activation="softmax", name="p"),
    ]
    model = k.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(model: Any, callbacks: list[Any], **named: Any) -> Any:
    x, y = _data()
    settings = {"epochs": 3, "batch_size": 8, "validation_split": 0.2, "verbose": 0, **named}
    return model.fit(x, y, callbacks=callbacks, **settings).history


def _state(model: Any) -> list[NDArray[Any]]:
    variables = model.optimizer.variables
    return [*model.get_weights(), *(each.numpy() for each in (variables() if callable(variables) else variables))]


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A base path below which nothing can be made, as soon as `_block` was called."""
    return tmp_path / "models" / "m"


def _block(base: Path) -> None:
    base.parent.mkdir(parents=True)
    base.write_text("in the way")


def _tries(callback: ExportCallback) -> list[tuple[int, int | None]]:
    return [(failure.epoch, failure.batch) for failure in callback.failures]


def test_training_does_not_notice(k: Any, tmp_path: Path, serve: Serve) -> None:
    """Losses, weights and the optimizer's state are those of a training without it; the version is of its epoch."""
    alone = _model(k)
    history = _fit(alone, [])
    watched = _model(k)
    callback = ExportCallback(tmp_path / "m", example_inputs=_data()[0], every=2, metadata={"training": {"seed": 11}})
    at_two: list[NDArray[Any]] = []
    look = k.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: at_two.append(np.asarray(watched(_data()[0]))) if epoch == 1 else None
    )
    assert _fit(watched, [look, callback]) == history
    for ours, theirs in zip(_state(watched), _state(alone), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    assert callback.failures == []
    (exported,) = callback.versions
    assert exported.path == tmp_path / "m" / "1"
    written = json.loads((exported.path / "metadata.json").read_text())
    assert (written["training"]["epochs"], written["training"]["seed"]) == (2, 11)
    assert written["training"]["optimizer"]["class_name"] == "Adam"
    assert written["user"]["epoch_metrics"] == pytest.approx({name: values[1] for name, values in history.items()})
    np.testing.assert_allclose(serve(exported.path, {"x": _data()[0]})["p"], at_two[0], rtol=1e-5, atol=1e-6)


def test_a_subclassed_model_is_known_by_its_first_batch(k: Any, tmp_path: Path) -> None:
    """Without example inputs its inputs are what `fit` feeds it, integers included; the model keeps its train_step."""

    class Embedded(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = k.layers.Embedding(5, 3)
            self.score = k.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.score(self.words(x)[:, 0])

    model = Embedded()
    model.compile("sgd", "mse")
    callback = ExportCallback(tmp_path / "m", every=2)
    x = np.arange(20, dtype=np.int32).reshape(10, 2) % 5
    model.fit(x, np.ones((10, 1)), epochs=2, batch_size=4, verbose=0, callbacks=[callback])
    assert callback.failures == []
    assert "train_step" not in vars(model)
    (spec,) = callback.versions[0].metadata["input_signature"].values()
    assert spec == {"dtype": "int32", "shape": [None, 2]}


def test_only_improvements_are_exported(keras: Any, tmp_path: Path) -> None:
    """Where a metric is named, an epoch that does not improve it makes no version, nor does one without it."""
    callback = ExportCallback(tmp_path / "m", monitor="val_loss", initial_value_threshold=2.0)
    callback.set_model(_model(keras))
    for epoch, loss in enumerate([3.0, 1.0, 1.5, float("nan")]):
        callback.on_epoch_end(epoch, {"val_loss": loss})
    assert [each.metadata["user"]["epoch_metrics"] for each in callback.versions] == [{"val_loss": 1.0}]
    assert callback.best == 1.0


def test_a_missing_metric_is_told(tmp_path: Path, keras: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the metric that was wanted and those that are there; nothing is exported unjudged."""
    callback = ExportCallback(tmp_path / "m", save_best_only=True)
    _fit(_model(keras), [callback], epochs=1, validation_split=0.0)
    assert not callback.versions
    assert not callback.failures
    assert "val_loss" in caplog.text
    assert "accuracy, loss" in caplog.text


def test_a_failure_does_not_stop_the_training(k: Any, blocked: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every epoch runs, each failure is a warning with its reason and is kept; the best is still to be beaten."""
    callback = ExportCallback(blocked, monitor="loss", mode="max", initial_value_threshold=-1.0)
    _block(blocked)
    assert len(_fit(_model(k), [callback])["loss"]) == 3
    assert _tries(callback) == [(1, None), (2, None), (3, None)]
    assert callback.best == -1.0
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([each for each in warnings if str(blocked) in each and "training goes on" in each]) == 3


def test_a_failure_stops_it_if_asked(k: Any, blocked: Path) -> None:
    """With on_error="raise" fit ends with the exporter's own error."""
    callback = ExportCallback(blocked, on_error="raise")
    _block(blocked)
    with pytest.raises(ExportError, match=blocked.name):
        _fit(_model(k), [callback])


def test_any_failure_is_survived(keras: Any, tmp_path: Path) -> None:
    """A fault that is no error of ours, here in a user's own array type, does not end the training either."""

    class Broken:
        def __array__(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no data today")

    callback = ExportCallback(tmp_path / "m", example_inputs=Broken())
    assert len(_fit(_model(keras), [callback], epochs=2)["loss"]) == 2
    assert len(callback.failures) == 2


def test_batches_are_counted(k: Any, blocked: Path) -> None:
    """An export falls due every three batches, across the ends of epochs, as ModelCheckpoint counts them."""
    callback = ExportCallback(blocked, save_freq=3)
    _block(blocked)
    _fit(_model(k), [callback])
    assert _tries(callback) == [(1, 3), (2, 2), (3, 1), (3, 4)]


@pytest.mark.parametrize(
    ("frequency", "batches", "tries"),
    [
        ({"every": 2}, [0, 1, 2, 3], [(5, None), (7, None)]),
        ({"every": 3}, [3], [(6, None)]),
        ({"save_freq": 3}, [1, 3], [(4, 4), (5, 4), (6, 4), (7, 4)]),
        ({"save_freq": 7}, [1, 3], [(5, 4), (7, 4)]),
    ],
)
def test_when_it_exports(
    blocked: Path, frequency: dict[str, int], batches: list[int], tries: list[tuple[int, int | None]]
) -> None:
    """Training may begin at a later epoch, and several batches may be run in one execution."""
    callback = ExportCallback(blocked, example_inputs=np.zeros((3, 4)), **frequency)  # type: ignore[arg-type]
    _block(blocked)
    callback.set_model(SimpleNamespace(non_trainable_variables=[], _flatten_layers=list))
    for epoch in range(3, 7):
        callback.on_epoch_begin(epoch)
        for batch in batches:
            callback.on_train_batch_end(batch, {"loss": 1.0})
        callback.on_epoch_end(epoch, {"loss": 1.0})
    assert _tries(callback) == tries


def test_the_tag_is_filled_in(keras: Any, tmp_path: Path) -> None:
    """A metric that the logs lack is named with those that they hold."""
    callback = ExportCallback(tmp_path / "m", tag="{epoch}-{val_auc:.2f}")
    _fit(_model(keras), [callback], epochs=1)
    assert "val_auc" in str(callback.failures[0].error)
    assert "val_accuracy" in str(callback.failures[0].error)


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"inputs_names": ["x"]}, "inputs_names.*input_names"),
        ({"every": 0}, "every"),
        ({"save_freq": "batch"}, "save_freq"),
        ({"monitor": "val_loss", "mode": "best"}, "best"),
        ({"monitor": "val_wellness"}, "val_wellness.*mode="),
        ({"on_error": "ignore"}, "on_error"),
        ({"metadata": {"notes": 3}}, "notes"),
    ],
)
def test_misuse_is_told_before_the_training(tmp_path: Path, named: dict[str, Any], told: str) -> None:
    """What no export could succeed with is an error of the constructor, not of the first epoch."""
    with pytest.raises(ExportError, match=told):
        ExportCallback(tmp_path / "m", **named)


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("val_loss", 0.1, 0.2),
        ("val_decoder_loss", 0.1, 0.2),
        ("val_sparse_categorical_crossentropy", 0.1, 0.2),
        ("val_accuracy", 0.9, 0.8),
        ("val_acc", 0.9, 0.8),
        ("auc_3", 0.9, 0.8),
        ("f1_score", 0.9, 0.8),
        ("precision_at_recall", 0.9, 0.8),
    ],
)
def test_which_way_is_better(metric: str, better: float, worse: float) -> None:
    """The name of a metric decides, unless the mode does; NaN never wins."""
    by_name = Improvement(metric, initial=worse)
    assert by_name.is_better(better)
    assert not by_name.is_better(worse)
    assert not by_name.is_better(float("nan"))
    turned = Improvement(metric, "min" if better > worse else "max", initial=worse)
    assert not turned.is_better(better)


def test_asking_leaves_seeds_and_memories_alone(k: Any) -> None:
    """A random layer that is left on, and a stateful one, continue as if they had not been asked."""
    x = k.Input(batch_shape=(2, 3, 4))
    y = k.layers.LSTM(2, stateful=True)(x)
    model = k.Model(x, k.layers.Dropout(0.5)(y, training=True) if k.__name__ == "keras" else y)
    rows = np.ones((2, 3, 4), np.float32)
    model(rows)
    with untouched(model):
        first = np.asarray(model(rows))
        assert not np.array_equal(np.asarray(model(rows)), first)
    np.testing.assert_array_equal(np.asarray(model(rows)), first)

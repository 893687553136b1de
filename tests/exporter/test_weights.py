"""Weights go into the architecture that they belong to, whole and exact, or it is said what does not fit."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows
from tfbundle_exporter.settings import SourceSettings
from tfbundle_exporter.sources.loading import load_model
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

#: Rows that the models of this file answer.
X = rows(4)


def nested(k: Any, *, frozen: bool = False, units: int = 2, dense: str = "deep", extra: bool = False) -> Any:
    """Build a model in a model, with batch normalizations of one width: their weights fit in any order."""
    layers = [k.layers.Input((4,)), k.layers.Dense(4, name=dense)]
    layers += [k.layers.BatchNormalization(name=name) for name in ("bn1", "bn2")]
    inner = k.Sequential(layers, name="inner")
    inner.trainable = not frozen
    x = k.Input((4,), name="x")
    y = k.layers.Reshape((2, 2))(k.layers.Dropout(0.5)(inner(x)))
    y = k.layers.LSTM(units, name="lstm")(y)
    if extra:
        y = k.layers.Dense(2, name="head")(y)
    return k.Model(x, y)


def fill(model: Any, seed: int = 3) -> Any:
    """Give each weight values of its own; a moving variance must not be negative."""
    draw = np.random.default_rng(seed)
    model.set_weights([draw.uniform(0.1, 0.9, size=weight.shape) for weight in model.get_weights()])
    return model


def answers(model: Any, x: NDArray[Any] = X) -> NDArray[Any]:
    """Ask a model."""
    return np.asarray(model(x, training=False))


@dataclass(frozen=True)
class Saved:
    """One trained model of each Keras in every format, with its answers."""

    folder: Path
    expected: dict[str, NDArray[Any]]

    def path(self, k: Any, name: str) -> Path:
        """Give the path of a format: "full.h5", "checkpoint-1"."""
        return self.folder / str(k.__name__) / name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Save a model of each Keras, optimizer and all."""
    import keras
    import tf_keras

    root = tmp_path_factory.mktemp("weights")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Saved(root, {k.__name__: save_all(k, root / k.__name__) for k in (keras, tf_keras)})


def save_all(k: Any, folder: Path) -> NDArray[Any]:
    """Write one model in every format of its Keras."""
    import tensorflow as tf

    folder.mkdir()
    model = nested(k)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    fill(model)
    model.save(folder / "full.h5")
    model.save(folder / "full.keras")
    model.save_weights(folder / "late.weights.h5")
    if k.__name__ == "tf_keras":
        model.save_weights(folder / "weights.h5")
        model.save_weights(folder / "saved_weights")
    tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=tf.Variable(1)).save(folder / "checkpoint")
    tf.train.Checkpoint(model).save(folder / "bare")
    return answers(model)


@pytest.fixture
def other(k: Any) -> Any:
    """The Keras that `k` is not."""
    import keras
    import tf_keras

    return tf_keras if k is keras else keras


OWN = ["full.h5", "full.keras", "late.weights.h5", "checkpoint-1", "bare-1"]


@pytest.mark.parametrize("frozen", [False, True], ids=["unfrozen", "frozen"])
@pytest.mark.parametrize("name", [*OWN, "weights.h5", "saved_weights"])
def test_weights_are_exact(name: str, frozen: bool, k: Any, saved: Saved) -> None:
    """Every kind of weights gives its own Keras the same answers, whatever was frozen when they were saved."""
    if k.__name__ == "keras" and name not in OWN:
        pytest.skip("only Keras 2 writes it")
    model = load_model(identify(saved.path(k, name)), SourceSettings(architecture=nested(k, frozen=frozen)))
    np.testing.assert_array_equal(answers(model), saved.expected[k.__name__])


@pytest.mark.parametrize("name", ["full.h5", "weights.h5", "late.weights.h5"])
def test_keras_2_weights_in_a_keras_3_model(name: str, keras: Any, tf_keras: Any, saved: Saved) -> None:
    """HDF5 weights of Keras 2 are exact in Keras 3, too, where the user's architecture is of Keras 3."""
    for frozen in (False, True):
        reading = SourceSettings(architecture=nested(keras, frozen=frozen))
        model = load_model(identify(saved.path(tf_keras, name)), reading)
        assert isinstance(model, keras.Model)
        np.testing.assert_allclose(answers(model), saved.expected["tf_keras"], atol=1e-6)


@pytest.mark.parametrize("name", ["checkpoint-1", "bare-1", "full.keras"])
def test_the_other_keras_is_refused(name: str, k: Any, other: Any, saved: Saved) -> None:
    """A checkpoint into a model of the other Keras, which would restore nothing in silence, is an error."""
    reading = SourceSettings(architecture=nested(other))
    with pytest.raises(ExportError, match=r"was written by Keras \d, but the given model is a model of Keras \d"):
        load_model(identify(saved.path(k, name)), reading)


def test_weights_alone_ask_for_an_architecture(k: Any, saved: Saved) -> None:
    """The option that is missing is named."""
    with pytest.raises(ExportError, match=r"holds weights alone.*--architecture \(architecture=\)"):
        load_model(identify(saved.path(k, "late.weights.h5")), SourceSettings())


WRONG: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "shape": (
        {"units": 3},
        {
            "hdf5": r"layer 'lstm', kernel: \(2, 8\) in the file, \(2, 12\) in the architecture",
            "v3": r"layers/lstm/cell/vars/0: \(2, 8\) in the file, \(2, 12\) in the architecture",
            "checkpoint": r"lstm_cell/kernel \(.*cell/kernel\): \(2, 8\) in the file, \(2, 12\) in the architecture",
        },
    ),
    "missing": (
        {"extra": True},
        {
            "hdf5": r"\(3 of them\): the file lacks layer 'head'",
            "v3": r"the file lacks layers/dense/vars/0 \(2, 2\)",
            "checkpoint": r"the file lacks head/kernel",
        },
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("name", OWN)
def test_what_does_not_fit_is_named(case: str, name: str, k: Any, saved: Saved) -> None:
    """A wrong shape is told with both shapes and its layer, a missing layer by its name; the model stays as it was."""
    options, patterns = WRONG[case]
    style = "checkpoint" if name.endswith("-1") else "hdf5" if name == "full.h5" else "v3"
    model = nested(k, **options)
    before = answers(model)
    with pytest.raises(ExportError, match=f"does not fit the given model.*{patterns[style]}.*Nothing is restored"):
        load_model(identify(saved.path(k, name)), SourceSettings(architecture=model))
    np.testing.assert_array_equal(answers(model), before)


@pytest.mark.parametrize("name", OWN)
def test_what_is_left_over_is_named(name: str, k: Any, saved: Saved) -> None:
    """An architecture that lacks a layer of the file gets nothing; what training left there is no complaint."""
    x = k.Input((4,), name="x")
    inner = nested(k).get_layer("inner")
    model = k.Model(x, inner(x))
    with pytest.raises(
        ExportError, match=r"the architecture has no place for .*lstm|.*has no place for .*cell"
    ) as caught:
        load_model(identify(saved.path(k, name)), SourceSettings(architecture=model))
    assert "optimizer" not in str(caught.value)
    assert "save_counter" not in str(caught.value)


def test_a_checkpoint_of_something_else_restores_nothing(k: Any, tmp_path: Path) -> None:
    """Where not one name agrees, both sides are listed."""
    import tensorflow as tf

    prefix = tf.train.Checkpoint(weights=[tf.Variable([1.0])]).save(tmp_path / "other")
    with pytest.raises(ExportError, match=r"restores nothing into the given model.*holds weights/0.*wants .*kernel"):
        load_model(identify(prefix), SourceSettings(architecture=nested(k)))


def test_two_models_that_fit_are_not_guessed_between(k: Any, tmp_path: Path) -> None:
    """A checkpoint of two equal models is refused unless one of them is called model."""
    import tensorflow as tf

    first, second = (k.Sequential([k.layers.Input((2,)), k.layers.Dense(1)]) for _ in range(2))
    prefix = tf.train.Checkpoint(student=first, teacher=second).save(tmp_path / "pair")
    with pytest.raises(ExportError, match=r"holds several models that fit .*: student, teacher"):
        load_model(identify(prefix), SourceSettings(architecture=second))
    first.set_weights([np.full((2, 1), 7.0), np.zeros(1)])
    prefix = tf.train.Checkpoint(model=first, ema=second).save(tmp_path / "named")
    load_model(identify(prefix), SourceSettings(architecture=second))
    assert second.get_weights()[0][0, 0] == 7


def test_layers_that_changed_places(tf_keras: Any, keras: Any, tmp_path: Path) -> None:
    """Layers of one shape in another order are matched by their names, or refused where names do not suffice."""
    layers = tf_keras.layers
    model = fill(tf_keras.Sequential([layers.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b")]))
    model.save_weights(tmp_path / "w.h5")
    model.save_weights(tmp_path / "w.weights.h5")
    x = tf_keras.Input((4,))
    b = tf_keras.layers.Dense(4, name="b")
    a = tf_keras.layers.Dense(4, name="a")
    b.build((None, 4))
    named = tf_keras.Model(x, b(a(x)))
    load_model(identify(tmp_path / "w.h5"), SourceSettings(architecture=named))
    np.testing.assert_array_equal(answers(named), answers(model))
    for k in (keras, tf_keras):
        swapped = k.Sequential([k.layers.Input((4,)), k.layers.Dense(4, name="b"), k.layers.Dense(4, name="c")])
        with pytest.raises(ExportError, match=r"layer 'b' is number 2 .* in the file and number 1 in the architecture"):
            load_model(identify(tmp_path / "w.h5"), SourceSettings(architecture=swapped))
    model = fill(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(4, name="b")])
    )
    model.save_weights(tmp_path / "v3.weights.h5")
    swapped = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="b"), keras.layers.Dense(4, name="a")])
    with pytest.raises(ExportError, match=r"layer 'a' is at layers/dense in the file and at layers/dense_1"):
        load_model(identify(tmp_path / "v3.weights.h5"), SourceSettings(architecture=swapped))


def test_renamed_layers_are_matched_by_order(k: Any, saved: Saved) -> None:
    """A counter that ran on, or another name, does not matter where the order and the shapes agree."""
    model = load_model(identify(saved.path(k, "full.h5")), SourceSettings(architecture=nested(k, dense="renamed")))
    np.testing.assert_array_equal(answers(model), saved.expected[k.__name__])


def test_a_damaged_file(tf_keras: Any, saved: Saved, tmp_path: Path) -> None:
    """A truncated weights file is called damaged."""
    path = tmp_path / "cut.h5"
    path.write_bytes(saved.path(tf_keras, "weights.h5").read_bytes()[:4000])
    with pytest.raises(ExportError, match="damaged"):
        load_model(identify(path), SourceSettings(architecture=nested(tf_keras)))


def test_a_misleading_suffix(tf_keras: Any, saved: Saved, tmp_path: Path) -> None:
    """Weights are told by their content, also where their suffix speaks of the other layout."""
    for source, name in (("weights.h5", "a.weights.h5"), ("late.weights.h5", "b.h5"), ("late.weights.h5", "c.keras")):
        shutil.copy(saved.path(tf_keras, source), tmp_path / name)
        model = load_model(identify(tmp_path / name), SourceSettings(architecture=nested(tf_keras)))
        np.testing.assert_array_equal(answers(model), saved.expected["tf_keras"])


def subclassed(k: Any) -> Callable[[], Any]:
    """Give a factory of models that learn their shapes when they are called."""

    class Net(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = k.layers.Dense(3)
            self.second = k.layers.Dense(2)

        def call(self, x: Any) -> Any:
            return self.second(self.first(x))

    return Net


@pytest.mark.parametrize("kind", ["hdf5", "v3", "checkpoint"])
def test_a_model_that_is_built_by_a_call(kind: str, k: Any, tmp_path: Path) -> None:
    """A subclassed model is called once on example inputs before it takes weights, and needs some."""
    import tensorflow as tf

    factory = subclassed(k)
    model = factory()
    expected = answers(fill((model(X), model)[1]))
    if kind == "checkpoint":
        source = Path(tf.train.Checkpoint(model=model).save(tmp_path / "c"))
    elif kind == "hdf5" and k.__name__ == "keras":
        pytest.skip("Keras 3 writes no HDF5 of a subclassed model")
    else:
        source = tmp_path / {"hdf5": "w.h5", "v3": "w.weights.h5"}[kind]
        model.save_weights(source)
    reading = SourceSettings(architecture=factory)
    with pytest.raises(ExportError, match=r"--examples FILE \(example_inputs=\)"):
        load_model(identify(source), reading)
    loaded = load_model(identify(source), reading, build=lambda live: live(X[:1]))
    np.testing.assert_array_equal(answers(loaded), expected)


@pytest.mark.parametrize("name", ["w.h5", "w.weights.h5", "c-1"])
def test_metrics_are_no_weights(name: str, k: Any, tmp_path: Path) -> None:
    """What a model with a training step of its own counts its loss with is neither missing nor left over."""
    import tensorflow as tf

    class Net(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = k.layers.Dense(2)
            self.loss_tracker = k.metrics.Mean(name="loss")
            self.seen = k.metrics.Mean(name="seen")

        def call(self, x: Any) -> Any:
            return self.dense(x)

    if name == "w.h5" and k.__name__ == "keras":
        pytest.skip("Keras 3 writes no HDF5 of a subclassed model")
    model = Net()
    expected = answers(model)
    model.loss_tracker.update_state(3.0)
    if name == "c-1":
        tf.train.Checkpoint(model=model).save(tmp_path / "c")
    else:
        model.save_weights(tmp_path / name)
    reading = SourceSettings(architecture=Net)
    loaded = load_model(identify(tmp_path / name), reading, build=lambda live: live(X[:1]))
    np.testing.assert_array_equal(answers(loaded), expected)


def test_a_vocabulary_that_no_file_holds(k: Any, tmp_path: Path) -> None:
    """Weights without the words that go with them are refused, since every word would be an unknown one."""

    def model(words: list[str] | None) -> Any:
        x = k.Input((1,), dtype="string")
        y = k.layers.StringLookup(vocabulary=words, name="words")(x)
        return k.Model(x, k.layers.Dense(1)(k.layers.Flatten()(k.layers.Embedding(5, 2)(y))))

    trained = model(["a", "b"])
    trained.save_weights(tmp_path / "w.weights.h5")
    trained.save(tmp_path / "full.h5")
    for name in ("w.weights.h5", "full.h5"):
        artefact = identify(tmp_path / name)
        load_model(artefact, SourceSettings(architecture=model(["a", "b"])))
    with pytest.raises(ExportError, match=r"layer 'words' has no vocabulary.*vocabulary="):
        load_model(artefact, SourceSettings(architecture=model(None)))

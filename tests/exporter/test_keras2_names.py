"""--names keras2 gives what Keras 2 `model.save` gave, for models of either Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import dicts, many, nested_dicts, states
from tfbundle_exporter.models.live import adapt
from tfbundle_exporter.models.saved_model import open_saved_model
from tfbundle_exporter.signatures.keras2_names import keras2_names

X = np.ones((2, 4), np.float32)


def first_layer(k: Any) -> Any:
    """Build a Sequential that learns its input from a call."""
    model = k.Sequential([k.layers.Dense(2)])
    model(X)
    return model


def input_shape(k: Any) -> Any:
    """Build a Sequential whose first layer says its input's shape."""
    return k.Sequential([k.layers.Dense(2, input_shape=(4,))])


def input_layer(k: Any) -> Any:
    """Build a Sequential that begins with an Input."""
    return k.Sequential([k.Input((4,)), k.layers.Dense(2)])


def shared(k: Any) -> Any:
    """Build a model of unnamed inputs, two of whose outputs come from one layer."""
    a, b = k.Input((4,)), k.Input((4,))
    both = k.layers.Concatenate()([a, b])
    dense = k.layers.Dense(1)
    return k.Model([a, b], [dense(both), dense(k.layers.ReLU()(both)), k.layers.Dense(3)(both)])


def other_keys(k: Any) -> Any:
    """Build a model whose dicts have other keys than its layers have names."""
    a, b = k.Input((4,), name="n1"), k.Input((4,), name="n2")
    total = k.layers.Add()([a, b])
    first, second = k.layers.Dense(2, name="first")(total), k.layers.Dense(1, name="second")(total)
    return k.Model({"kb": a, "ka": b}, {"zeta": first, "alpha": [second, total]})


def inside(k: Any) -> Any:
    """Build a model around a Sequential."""
    inner = k.Sequential([k.Input((4,)), k.layers.Dense(3)])
    x = k.Input((4,))
    return k.Model(x, inner(x))


def sequential_inside(k: Any) -> Any:
    """Build a Sequential that begins with a model."""
    inner = k.Sequential([k.Input((4,)), k.layers.Dense(3)])
    model = k.Sequential([inner, k.layers.Dense(1)])
    model(X)
    return model


def own_code(k: Any) -> Any:
    """Build a model class of one tensor."""

    class Own(k.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2.0 * x

    model = Own()
    model(X)
    return model


def own_dicts(k: Any) -> Any:
    """Build a model class of dicts and lists."""

    class Own(k.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return {"u": x["p"], "t": [x["q"] + 1.0, x["p"] + 2.0]}

    model = Own()
    model({"p": X, "q": X})
    return model


def own_lists(k: Any) -> Any:
    """Build a model class of lists and tuples."""

    class Own(k.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x[0] + 1.0, x[1] + 2.0

    model = Own()
    model([X, X])
    return model


def of_zoo(builder: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Take a specimen's model."""

    def build(k: Any) -> Any:
        return builder(k).model

    build.__name__ = builder.__name__
    return build


@pytest.mark.parametrize(
    "build",
    [
        *(first_layer, input_shape, input_layer, shared, other_keys, inside, sequential_inside),
        *(own_code, own_dicts, own_lists),
        *map(of_zoo, (many, dicts, nested_dicts, states)),
    ],
    ids=lambda build: build.__name__,
)
def test_as_model_save_named_them(build: Callable[[Any], Any], tf_keras: Any, keras: Any, tmp_path: Path) -> None:
    """The names are those in the SavedModel that Keras 2 writes, also for the same model built with Keras 3."""
    tf_keras.backend.clear_session()
    keras.backend.clear_session()
    live = build(tf_keras)
    live.save(tmp_path / "saved", save_format="tf")
    saved = open_saved_model(tmp_path / "saved")
    for model in (adapt(live), adapt(build(keras))):
        inputs, outputs = keras2_names(model)
        assert (len(inputs), len(outputs)) == (len(model.main.inputs), len(model.main.output_names))
        assert sorted(inputs) == sorted(saved.main.inputs)
        assert sorted(outputs) == sorted(saved.main.output_names)
        # And each name stands for the same thing.
        shapes = dict(zip(inputs, model.main.inputs.values(), strict=True))
        assert {name: spec.shape for name, spec in shapes.items()} == {
            name: spec.shape for name, spec in saved.main.inputs.items()
        }
    assert keras2_names(saved) == (tuple(saved.main.inputs), saved.main.output_names)


def test_each_name_stands_for_its_output(tf_keras: Any, tmp_path: Path) -> None:
    """Named as Keras 2 did, every output has the values that it had there."""
    import tensorflow as tf

    for number, build in enumerate((other_keys, own_dicts)):
        live = build(tf_keras)
        live.save(tmp_path / str(number), save_format="tf")
        saved, model = open_saved_model(tmp_path / str(number)), adapt(live)
        inputs, outputs = keras2_names(model)
        tensors = {name: tf.constant((place + 1) * X) for place, name in enumerate(sorted(inputs))}
        expected = dict(
            zip(saved.main.output_names, saved.main.call([tensors[name] for name in saved.main.inputs]), strict=True)
        )
        found = dict(zip(outputs, model.main.call([tensors[name] for name in inputs]), strict=True))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6)

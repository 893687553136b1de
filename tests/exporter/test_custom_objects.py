"""Classes and functions of the user's own reach the model that names them, and are named where they are missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows
from tfbundle_exporter.fresh_process import FreshProcess
from tfbundle_exporter.settings import SourceSettings
from tfbundle_exporter.sources.custom_objects import custom_objects, known_names
from tfbundle_exporter.sources.loading import load_model, needs_own_process
from tfbundle_exporter.sources.security import scan
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

X = rows(2)

#: A user's module; its Keras is whatever tf.keras is.
CODE = """
import math
import tensorflow as tf
from tensorflow.keras.activations import relu
from tensorflow.keras.layers import Dense

@tf.keras.utils.register_keras_serializable("shop")
class Scale(tf.keras.layers.Layer):
    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

class Plain(Scale):
    pass

def capped(x):
    return tf.minimum(x, 0.5)

LIMIT = 3
more = {"Extra": Scale}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the user's module where only its path finds it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "shop_layers.py"
    path.write_text(CODE)
    return path


def work_in_user_s_process(file: str, task: str, *arguments: Any) -> Any:
    """Run one of the tasks of this file in a fresh process."""
    import runpy

    return runpy.run_path(file)[task](*arguments)


def make(k: Any, folder: Path) -> NDArray[Any]:
    """Save a model with custom objects in both formats of a Keras, and leave nothing of it registered."""
    code = CODE.replace("tf.keras", "k").replace("tensorflow.keras", k.__name__)
    found: dict[str, Any] = {"k": k, "__name__": "shop_layers"}
    exec(code, found)
    layers = [k.layers.Input((2,), name="x"), found["Scale"](3.0, name="threefold"), found["Plain"](2.0, name="double")]
    model = k.Sequential([*layers, k.layers.Dense(2, activation=found["capped"], name="cap")])
    model.compile("adam", loss=lambda y, p: y - p)
    model.save(folder / "m.h5")
    model.save(folder / "m.keras")
    del k.saving.get_custom_objects()["shop>Scale"]
    return np.asarray(model(X))


def load(path: Path, modules: tuple[str, ...]) -> NDArray[Any]:
    """Scan and load a model, as the exporter does, where nothing of it is registered."""
    reading = SourceSettings(modules=modules)
    artefact = identify(path)
    assert not scan(artefact, known_names=known_names(reading))
    return np.asarray(load_model(artefact, reading)(X))


def test_a_module_is_enough(k: Any, module: Path) -> None:
    """Naming the module makes its classes, registered or not, and functions known to the Keras of the file."""
    expected = make(k, module.parent)
    environment = needs_own_process(identify(module.with_name("m.h5")), SourceSettings(modules=(str(module),)))
    legacy = {"keras": "0", "tf_keras": "1"}[k.__name__]
    assert environment == {"TF_USE_LEGACY_KERAS": legacy, "KERAS_BACKEND": "tensorflow"}
    with FreshProcess("loading", environment=environment, preload=("tensorflow",), is_usual=True) as process:
        found = process.run(work_in_user_s_process, __file__, "load_both", module)
    for each in found:
        np.testing.assert_allclose(each, expected, atol=1e-6)


def load_both(module: Path) -> list[NDArray[Any]]:
    """Load one format by the whole module and the other by single names."""
    names = tuple(f"{module}:{name}" for name in ("Scale", "Plain", "capped"))
    return [load(module.with_name("m.h5"), (str(module),)), load(module.with_name("m.keras"), names)]


@pytest.mark.usefixtures("keras")
def test_what_a_module_gives(module: Path) -> None:
    """Its own layers and functions are taken; what it imported from Keras would only shadow Keras's own."""
    objects = custom_objects(SourceSettings(modules=(str(module),)), "keras")
    assert set(objects) == {"Scale", "Plain", "capped"}
    objects = custom_objects(SourceSettings(modules=(f"{module}:more", f"{module}:capped")), "keras")
    assert set(objects) == {"Extra", "capped"}
    assert {"Scale", "shop>Scale", "Plain", "capped"} <= known_names(SourceSettings(modules=(str(module),)))
    with pytest.raises(ExportError, match=r"shop_layers.py:LIMIT is a int; expected a class, a function or a mapping"):
        known_names(SourceSettings(modules=(f"{module}:LIMIT",)))
    with pytest.raises(ExportError, match=r"did you mean 'Scale'"):
        known_names(SourceSettings(modules=(f"{module}:Skale",)))
    with pytest.raises(ExportError, match="'Scale' is a str; expected a class or function"):
        known_names(SourceSettings(custom_objects={"Scale": "my.Scale"}))


def doubling(k: Any, base: Any = None) -> Any:
    """Make a layer class."""

    class Doubler((base or k).layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2.0

    return Doubler


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_missing_object_is_named(suffix: str, k: Any, tmp_path: Path) -> None:
    """Its name, its layer and the option that supplies it are told; an unrelated object does not stand in."""
    layer = doubling(k)(name="twice")
    k.Sequential([k.layers.Input((2,)), layer]).save(tmp_path / f"m{suffix}")
    for known in ({}, {"Tripler": doubling(k)}):
        with pytest.raises(ExportError, match=r"'Doubler' \(in layer 'twice'\).*--custom-objects MODULE:Doubler"):
            load_model(identify(tmp_path / f"m{suffix}"), SourceSettings(custom_objects=known))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_registered_name(suffix: str, k: Any, tmp_path: Path) -> None:
    """A class is found under "package>Name", by the bare name that the user gives or by its registration alone."""
    cls = doubling(k)
    registered = k.saving.register_keras_serializable("shop")(cls)
    k.Sequential([k.layers.Input((2,)), registered(name="twice")]).save(tmp_path / f"m{suffix}")
    artefact = identify(tmp_path / f"m{suffix}")
    try:
        assert "shop>Doubler" in known_names(SourceSettings())
        assert scan(artefact, known_names=known_names(SourceSettings())) == []
        np.testing.assert_array_equal(load_model(artefact, SourceSettings())(X), 2 * X)
    finally:
        del k.saving.get_custom_objects()["shop>Doubler"]
    reading = SourceSettings(custom_objects={"Doubler": cls})
    assert scan(artefact, known_names=known_names(reading)) == []
    np.testing.assert_array_equal(load_model(artefact, reading)(X), 2 * X)
    with pytest.raises(ExportError, match="Doubler"):
        load_model(artefact, SourceSettings())


def test_a_class_of_the_other_keras(k: Any, keras: Any, tf_keras: Any, tmp_path: Path) -> None:
    """A class that derives from the other Keras is refused with the Keras that the file needs."""
    other = tf_keras if k is keras else keras
    k.Sequential([k.layers.Input((2,)), doubling(k)(name="twice")]).save(tmp_path / "m.h5")
    mine, theirs = ("Keras 3", "Keras 2") if k is keras else ("Keras 2", "Keras 3")
    with pytest.raises(ExportError, match=rf"'Doubler' is made for {theirs}.*the model needs {mine}.*derive it from"):
        load_model(identify(tmp_path / "m.h5"), SourceSettings(custom_objects={"Doubler": doubling(k, other)}))


def test_a_custom_loss_does_not_stand_in_the_way(k: Any, tmp_path: Path) -> None:
    """What only training needs need not be known: a registered loss, a metric, an optimizer."""

    class Loss(k.losses.Loss):  # type: ignore[misc]
        def call(self, y: Any, p: Any) -> Any:
            return y - p

    class Metric(k.metrics.MeanMetricWrapper):  # type: ignore[misc]
        pass

    model = k.Sequential([k.layers.Input((2,)), k.layers.Dense(1)])
    model.compile(k.optimizers.Adam(), Loss(), metrics=[Metric(k.losses.mean_squared_error, name="own")])
    for suffix in (".h5", ".keras"):
        model.save(tmp_path / f"m{suffix}")
        loaded = load_model(identify(tmp_path / f"m{suffix}"), SourceSettings())
        np.testing.assert_array_equal(loaded(X), model(X))


def test_a_text_with_custom_objects(k: Any, tmp_path: Path) -> None:
    """An architecture's text uses them like a file does."""
    cls = doubling(k)
    model = k.Sequential([k.layers.Input((2,)), k.layers.Dense(2), cls(name="twice")])
    model.save_weights(tmp_path / "w.weights.h5")
    text = model.to_json()
    assert "Doubler" in json.dumps(text)
    reading = SourceSettings(architecture=text, custom_objects={"Doubler": cls})
    np.testing.assert_array_equal(load_model(identify(tmp_path / "w.weights.h5"), reading)(X), model(X))
    with pytest.raises(ExportError, match=r"Doubler.*--custom-objects"):
        load_model(identify(tmp_path / "w.weights.h5"), SourceSettings(architecture=text))

"""What people already do with trained models, from a file or folder to an answer that is proven equal.

Each is made as its users make it. Most are exported by the command line, the others by export_model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.commands import Export, by_command, by_python, fail
from tests.end_to_end.site import Site
from tests.end_to_end.workflow_models import (
    CUSTOM_PARTS,
    a_keras,
    accuracy,
    features,
    load_module,
    picture_net,
    pictures,
    write_module,
)
from tfbundle_exporter import export_model

BOTH = [("keras", by_command), ("tf_keras", by_python)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """The picture net of either Keras, trained, alive and as my_model.h5."""
    (x, y), _ = pictures()
    nets = {}
    for name in ("keras", "tf_keras"):
        with a_keras(name) as keras:
            net = picture_net(keras)
            net.fit(x, y, epochs=3, batch_size=32, verbose=0)
            file = tmp_path_factory.mktemp(name) / "my_model.h5"
            net.save(file)
        nets[name] = (net, file)
    return nets


@pytest.mark.parametrize(("keras_name", "export"), BOTH)
def test_1_a_single_file(site: Site, photographs: dict[str, tuple[Any, Path]], keras_name: str, export: Export) -> None:
    """A trained CNN saved as my_model.h5 is as accurate through the server as it was before it was saved."""
    net, file = photographs[keras_name]
    _, (x, y) = pictures()
    with a_keras(keras_name):
        _, before = net.evaluate(x, y, verbose=0)
        local = net.predict(x, verbose=0)
    assert before > 0.6
    model = f"cifar_{keras_name}"
    version = export(file, site.models / model, example_inputs=x[:8])
    site.expect(model, x, local, version=version)
    for answer in site.answers(model, x):
        assert accuracy(answer, y) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(
    ("keras_name", "save", "export"),
    [
        ("tf_keras", "model.save", by_command),
        ("tf_keras", "tf.saved_model.save", by_python),
        ("keras", "model.export", by_python),
        ("keras", "tf.saved_model.save", by_python),
    ],
)
def test_2_a_folder(
    site: Site,
    photographs: dict[str, tuple[Any, Path]],
    tmp_path: Path,
    keras_name: str,
    save: str,
    export: Export,
) -> None:
    """A folder in TensorFlow's own format goes out under a number, as it is; no hand has to make `models/m/1`.

    What tf.saved_model.save makes of a Keras 3 model reads variables that no server restores, and is wrapped anew.
    """
    import tensorflow as tf

    net, _ = photographs[keras_name]
    _, (x, _) = pictures()
    folder = tmp_path / "my_model"
    with a_keras(keras_name):
        local = net.predict(x, verbose=0)
        match save:
            case "model.save":
                net.save(folder)
            case "model.export":
                net.export(folder, verbose=False)
            case _:
                tf.saved_model.save(net, str(folder))
    model = f"folder_{keras_name}_{save.replace('.', '_')}"
    version = export(folder, site.models / model, example_inputs=x[:8])
    site.expect(model, x, local, version=version)
    published = site.models / model / str(version)
    is_kept = (published / "saved_model.pb").read_bytes() == (folder / "saved_model.pb").read_bytes()
    assert is_kept == ((keras_name, save) != ("keras", "tf.saved_model.save"))


def _save_subclassed(keras: Any, folder: Path) -> Any:
    """Save a model of custom layers that were never configured, after one call on a dummy input."""
    import tensorflow as tf

    class Linear(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, units: int) -> None:
            super().__init__()
            self.units = units

        def build(self, shape: Any) -> None:
            self.w = self.add_weight(shape=(shape[-1], self.units), initializer="random_normal", name="w")
            self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

        def call(self, x: Any) -> Any:
            return tf.matmul(x, self.w) + self.b

    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = Linear(64), Linear(10)

        def call(self, x: Any) -> Any:
            return self.last(tf.nn.relu(self.first(x)))

    net = Net()
    net(np.ones((1, 784), np.float32))
    tf.saved_model.save(net, str(folder))
    return net


def test_6_a_subclassed_model(site: Site, tmp_path: Path) -> None:
    """A subclassed model that was saved after one call goes out without the code of its classes."""
    x = np.random.default_rng(4).normal(size=(7, 784)).astype(np.float32)
    with a_keras("tf_keras") as keras:
        local = _save_subclassed(keras, tmp_path / "net").predict(x, verbose=0)
    site.expect("subclassed", x, local, version=by_command(tmp_path / "net", site.models / "subclassed"))


def test_6_a_subclassed_model_of_keras_3(site: Site, tmp_path: Path) -> None:
    """tf.saved_model.save of Keras 3 binds it to the dummy's one row, unlike the export of the live model."""
    x = np.random.default_rng(4).normal(size=(7, 784)).astype(np.float32)
    base = site.models / "subclassed_3"
    with a_keras("keras") as keras:
        net = _save_subclassed(keras, tmp_path / "net")
        local = net.predict(x, verbose=0)
    assert export_model(tmp_path / "net", base, example_inputs=x[:1], allow=["fixed-batch"]).version == 1
    site.expect("subclassed_3", x[:1], local[:1], version=1)
    assert export_model(net, base, example_inputs=x).version == 2
    site.expect("subclassed_3", x, local, version=2)


@pytest.mark.parametrize(("keras_name", "file"), [("tf_keras", "full.h5"), ("keras", "full.keras")])
def test_7_custom_objects(site: Site, tmp_path: Path, keras_name: str, file: str) -> None:
    """Registered layers and losses are known where their module is named, and asked for by name where it is not."""
    x, _ = features()
    y = np.stack([x.sum(1), x.mean(1)], axis=1)
    write_module(tmp_path / "my_parts.py", CUSTOM_PARTS)
    with a_keras(keras_name):
        parts = load_module(write_module(tmp_path / "here.py", CUSTOM_PARTS, keras_name))
        net = parts.build()
        net.compile("adam", parts.Weighted())
        net.fit(x, y, epochs=1, verbose=0)
        net.save(tmp_path / file)
        local = net.predict(x, verbose=0)
    model = f"custom_{keras_name}"
    base = site.models / model
    version = by_command(tmp_path / file, base, custom_objects="my_parts", folder=tmp_path)
    site.expect(model, x, local, version=version)
    error = fail("export", tmp_path / file, base)
    assert "Residual" in error
    assert "--custom-objects" in error


@pytest.mark.parametrize("how", ["model.save", "plain loss"])
def test_7_custom_objects_that_serving_does_not_need(site: Site, tmp_path: Path, how: str) -> None:
    """A SavedModel holds what its layers do, and a plain function as loss is no affair of a server's."""
    x, _ = features()
    y = np.stack([x.sum(1), x.mean(1)], axis=1)
    with a_keras("tf_keras") as keras:
        parts = load_module(write_module(tmp_path / "here.py", CUSTOM_PARTS, "tf_keras"))
        if how == "model.save":
            net, source = parts.build(), tmp_path / "folder"
        else:
            net = keras.Sequential([keras.layers.Input((32,), name="features"), keras.layers.Dense(2, name="score")])
            source = tmp_path / "plain.h5"
        net.compile("adam", parts.plain_loss)
        net.fit(x, y, epochs=1, verbose=0)
        net.save(source)
        local = net.predict(x, verbose=0)
    model = f"custom_{source.stem}"
    site.expect(model, x, local, version=by_python(source, site.models / model))

"""What people already do with Keras models, from the habit to an answer that is proven equal, over both transports.

Each is made as its users make it. Most are exported by the command line, the others by export_model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.commands import Export, by_command, by_python, fail, succeed
from tests.end_to_end.site import Site, running_site
from tests.end_to_end.workflow_models import (
    ARCHITECTURE,
    CUSTOM_PARTS,
    a_keras,
    accuracy,
    compiled,
    features,
    load_module,
    picture_net,
    pictures,
    write_module,
)
from tfbundle_exporter import export_model
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path

BOTH = [("keras", by_command), ("tf_keras", by_python)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all workflows, which finds each model when it appears."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


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


@pytest.mark.parametrize(
    ("keras_name", "weights", "export"),
    [
        ("tf_keras", "weights_folder/my_weights", by_command),
        ("tf_keras", "my_weights.h5", by_python),
        ("keras", "my_weights.weights.h5", by_python),
    ],
)
def test_3_weights_alone(site: Site, tmp_path: Path, keras_name: str, weights: str, export: Export) -> None:
    """Weights go out with the code that builds their model."""
    x, y = features()
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    with a_keras(keras_name):
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build())
        net.fit(x, y, epochs=1, verbose=0)
        (tmp_path / weights).parent.mkdir(exist_ok=True)
        net.save_weights(str(tmp_path / weights))
        local = net.predict(x, verbose=0)
    model = weights.replace("/", "_").replace(".", "_")
    # A module on the path where the user stands, or a file.
    told: dict[str, Any] = {"architecture": f"{code}:build"}
    if export is by_command:
        told = {"architecture": "network:build", "folder": tmp_path}
    version = export(tmp_path / weights, site.models / model, **told)
    site.expect(model, x, local, version=version)


def test_3_weights_of_another_architecture(tmp_path: Path) -> None:
    """The error names the layer and both shapes, and no version appears."""
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    with a_keras("tf_keras"):
        load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "tf_keras")).build().save_weights(
            str(tmp_path / "my_weights")
        )
    error = fail("export", tmp_path / "my_weights", tmp_path / "models" / "m", "--architecture", f"{code}:build_wider")
    assert "hidden" in error
    assert "(32, 16)" in error
    assert "(32, 24)" in error
    assert not list((tmp_path / "models").glob("m/[0-9]*"))


@pytest.mark.parametrize(
    ("keras_name", "names", "export"),
    [
        ("tf_keras", "cp-{epoch:04d}.ckpt", by_command),
        ("keras", "cp-{epoch:04d}.weights.h5", by_python),
    ],
)
def test_4_checkpoints_of_a_training(site: Site, tmp_path: Path, keras_name: str, names: str, export: Export) -> None:
    """Of a ModelCheckpoint folder the latest goes out, or the epoch that is asked for."""
    x, y = features()
    folder = tmp_path / "training_checkpoints"
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    wanted = []
    with a_keras(keras_name) as keras:
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build())
        keep = keras.callbacks.ModelCheckpoint(str(folder / names), save_weights_only=True, save_freq="epoch")
        for epoch in range(4):
            net.fit(x, y, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[keep])
            wanted.append(net.predict(x, verbose=0))
    model = f"checkpoints_{keras_name}"
    latest = export(folder, site.models / model, pick="latest", architecture=f"{code}:build")
    site.expect(model, x, wanted[-1], version=latest)
    third = by_python(folder, site.models / model, pick="epoch=3", architecture=f"{code}:build")
    assert third == latest + 1
    site.expect(model, x, wanted[2], version=third)


@pytest.mark.parametrize(
    ("keras_name", "names", "best"),
    [
        # Which number it is does not stand in the name, so that the user says which way is better.
        ("tf_keras", "model-{epoch:02d}-{val_accuracy:.2f}.hdf5", "best:max"),
        ("keras", "model-{epoch:02d}-val_loss-{val_loss:.4f}.keras", "best"),
    ],
)
def test_5_checkpoints_with_the_metric_in_the_name(
    site: Site, tmp_path: Path, keras_name: str, names: str, best: str
) -> None:
    """The best goes out by the number in its file name, the latest by its epoch."""
    x, y = features()
    folder = tmp_path / "results_20240229_1200"
    with a_keras(keras_name) as keras:
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build())
        net.optimizer.learning_rate = 0.01
        # Training goes wrong after the second epoch, so that the best is not the latest.
        spoil = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: epoch == 2 and net.set_weights([-30 * each for each in net.get_weights()])
        )
        folder.mkdir()
        keep = keras.callbacks.ModelCheckpoint(str(folder / names), save_best_only=False)
        net.fit(x, y, validation_split=0.5, batch_size=8, epochs=3, verbose=0, callbacks=[spoil, keep])
        files = sorted(folder.iterdir())
        answers = [keras.models.load_model(file, compile=False).predict(x, verbose=0) for file in files]
    assert len(files) == 3
    scores = [float(file.stem.rsplit("-", 1)[1]) for file in files]
    winner = int(np.argmin(scores)) if best == "best" else max(range(3), key=lambda at: (scores[at], at))
    assert winner < 2
    model = f"metrics_{keras_name}"
    base = site.models / model
    site.expect(model, x, answers[winner], version=by_python(folder, base, pick=best))
    site.expect(model, x, answers[2], version=by_python(folder, base, pick="latest"))


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


def test_8_proof(site: Site, tmp_path: Path) -> None:
    """The fixed input gives the same answer before and after, below 1e-6; the figure and the rows are kept with it."""
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32)
    with a_keras("keras"):
        net = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "keras")).build()
        before = np.asarray(net(x, training=False))
    exported = export_model(net, site.models / "proven", example_inputs=x)
    for answer in site.answers("proven", x, version=exported.version):
        assert np.max(np.abs(answer - before)) < 1e-6
    written = json.loads((exported.path / "metadata.json").read_text())
    assert written["parity"]["max_abs_diff"] < 1e-6
    golden = read_golden(golden_path(exported.path))["serving_default"]
    np.testing.assert_array_equal(golden.inputs["features"][0], x[0])
    np.testing.assert_allclose(golden.outputs["probabilities"][0], before[0], atol=1e-7)
    told = succeed(
        *("parity", site.server.grpc_url, "proven", "--also", site.server.rest_url),
        *("--reference", exported.path, "--atol", "1e-6", "--json"),
    )
    assert json.loads(told)["verdict"] == "equal"


def test_9_versions(site: Site, tmp_path: Path) -> None:
    """Each export is a new folder, numbers only go up, a released one stays; what was said of it stands beside it."""
    x, y = features()
    said: dict[str, Any] = {
        "training": {"batch_size": 40, "epochs": 1, "seed": 5},
        "data": {"dataset_id": "features", "split": "train", "preprocessing": "none"},
        "notes": "the first of its kind",
    }
    with a_keras("keras"):
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "keras")).build())
        net.save(tmp_path / "first.keras")
        net.fit(x, y, epochs=1, batch_size=40, verbose=0)
        net.save(tmp_path / "second.keras")
        local = net.predict(x, verbose=0)
    base = site.models / "versioned"
    assert by_python(tmp_path / "first.keras", base) == 1
    released = (base / "1" / "saved_model.pb").stat().st_mtime_ns
    assert by_command(tmp_path / "second.keras", base, metadata=said, tag="1.4.0") == 2
    with pytest.raises(ExportError, match="1"):
        export_model(tmp_path / "second.keras", base, version=1)
    assert (base / "1" / "saved_model.pb").stat().st_mtime_ns == released
    site.expect("versioned", x, local, version=2)

    written = json.loads((base / "2" / "metadata.json").read_text())
    assert (written["model_name"], written["version"], written["tag"]) == ("versioned", 2, "1.4.0")
    assert written["input_signature"] == {"features": {"dtype": "float32", "shape": [None, 32]}}
    assert {name: written["training"][name] for name in said["training"]} == said["training"]
    assert written["training"]["optimizer"]["class_name"] == "Adam"
    assert written["training"]["loss"] == "sparse_categorical_crossentropy"
    assert {name: written[name] for name in ("data", "notes")} == {name: said[name] for name in ("data", "notes")}
    assert {"format", "created_at", "tensorflow_version", "keras_version"} <= written.keys()

    succeed("verify", base / "2")


@pytest.mark.parametrize(
    ("keras_name", "text", "export"), [("tf_keras", "yaml", by_command), ("keras", "json", by_python)]
)
def test_10_architecture_and_weights_apart(
    site: Site, tmp_path: Path, keras_name: str, text: str, export: Export
) -> None:
    """to_json, or the to_yaml of old, and a weights file go out together; statistics prove that no weight changed."""
    x, _ = features()
    with a_keras(keras_name):
        net = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build()
        config = net.to_json()
        weights = tmp_path / ("weights.h5" if keras_name == "tf_keras" else "my.weights.h5")
        net.save_weights(str(weights))
        local = net.predict(x, verbose=0)
    (tmp_path / f"architecture.{text}").write_text(config if text == "json" else _old_yaml(json.loads(config)))
    model = f"apart_{keras_name}"
    version = export(weights, site.models / model, architecture=tmp_path / f"architecture.{text}")
    site.expect(model, x, local, version=version)

    # The same statistics, of what is stored before and after; a version holds the seeds of its Dropout layers, too.
    before, after = (
        {weight["sha256"] for weight in json.loads(succeed("inspect", path, "--json"))["weights"].values()}
        for path in (weights, site.models / model / str(version))
    )
    assert len(before) == 4
    assert before <= after


def _old_yaml(value: Any, indent: str = "") -> str:
    """Write YAML as Keras 2.2 did: shapes as Python tuples, each item on a line of its own."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{indent}{key}:\n{_old_yaml(item, indent + '  ')}")
        elif isinstance(item, list) and key == "layers":
            layers = [_old_yaml(layer, indent + "  ") for layer in item]
            lines += [f"{indent}{key}:\n", *(f"{indent}-{layer[len(indent) + 1 :]}" for layer in layers)]
        elif isinstance(item, list) and "shape" in key:
            lines.append(f"{indent}{key}: !!python/tuple [{', '.join(json.dumps(size) for size in item)}]\n")
        else:
            lines.append(f"{indent}{key}: {json.dumps(item)}\n")
    return "".join(lines)


@pytest.mark.parametrize("keras_name", ["keras", "tf_keras"])
def test_10_training_goes_on(site: Site, tmp_path: Path, keras_name: str) -> None:
    """Two more epochs from the source that a served version kept end with the loss of a training never interrupted."""
    x, y = features()
    with a_keras(keras_name) as keras:
        here = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name))
        net = compiled(keras.Sequential([layer for layer in here.build().layers if "dropout" not in layer.name]))
        net.fit(x, y, epochs=2, shuffle=False, verbose=0)
        net.save(tmp_path / "trained.keras")
        local = net.predict(x, verbose=0)
        uninterrupted = net.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"]
    model = f"resumed_{keras_name}"
    version = by_python(tmp_path / "trained.keras", site.models / model, keep_source=True)
    site.expect(model, x, local, version=version)
    succeed("restore", site.models / model / str(version), tmp_path / "restored.keras")
    assert (tmp_path / "restored.keras").read_bytes() == (tmp_path / "trained.keras").read_bytes()
    with a_keras(keras_name) as keras:
        again = keras.models.load_model(tmp_path / "restored.keras")
        assert again.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"] == uninterrupted

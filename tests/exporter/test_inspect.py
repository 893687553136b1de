"""tfbundle inspect: what a file or folder is, without loading it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.exporter.version_folders import KERNEL, write_version
from tests.exporter.zoo import nested, sequential, texts
from tfbundle_exporter.folder.weights import describe_weights
from tfbundle_exporter.reading.cli import main
from tfbundle_exporter.reading.inspection import inspect
from tfbundle_exporter.sources.tensor_bundle import read_bundle
from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.fingerprint import read_fingerprint

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_file_is_shown_as_its_keras_knows_it(k: Any, suffix: str, tmp_path: Path) -> None:
    """Layers, parameters, weights with hashes and training are those of the live model."""
    model = nested(k).model
    model.compile("adam", "mse")
    path = tmp_path / f"model{suffix}"
    model.save(path)
    found = inspect(path)
    assert found.kind == {".keras": "keras_archive", ".h5": "hdf5"}[suffix]
    assert (found.troubles, found.findings) == ((), ())
    layers = {layer.name: layer for layer in found.layers}
    assert [name for name in layers if "/" not in name] == [layer.name for layer in model.layers]
    for layer in model.layers:
        assert layers[layer.name].parameters == layer.count_params()
        assert layers[layer.name].class_name == type(layer).__name__
    assert layers["x"].output_shape == (None, 4)
    assert layers["y"].output_shape in ((None, 2), None)
    assert found.parameters == model.count_params()
    values = [getattr(weight, "value", weight) for weight in model.weights]
    live = describe_weights({str(place): value() if callable(value) else value for place, value in enumerate(values)})
    assert sorted(each["sha256"] for each in found.weights.values()) == sorted(each["sha256"] for each in live.values())
    kernel = found.weights["y/kernel"]
    assert kernel["mean"] == pytest.approx(float(np.mean(model.get_layer("y").get_weights()[0])))
    assert found.training["loss"] == "mse"


def test_optimizer_state_is_told(k: Any, tmp_path: Path) -> None:
    """A file that a training can go on from says so, weights without it do not."""
    model = sequential(k).model
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((4, 8, 8, 1), np.float32), np.zeros(4), verbose=0)
    model.save(tmp_path / "model.keras")
    assert inspect(tmp_path / "model.keras").optimizer_state
    bare = sequential(k).model
    bare.save_weights(tmp_path / "bare.weights.h5")
    assert not inspect(tmp_path / "bare.weights.h5").optimizer_state


def test_an_optimizer_beside_the_model_hides_no_weight(k: Any, tmp_path: Path) -> None:
    """tf.train.Checkpoint of model and optimizer under any names: all of the model's weights, none of the optimizer's.

    A Keras 3 optimizer holds the trained variables, which are then stored below it and nowhere else.
    """
    import tensorflow as tf

    model = nested(k).model
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 4), np.float32), np.zeros((4, 2), np.float32), verbose=0)
    for names in ({"model": model, "optimizer": model.optimizer}, {"net": model, "opt": model.optimizer}):
        found = inspect(tf.train.Checkpoint(**names).save(str(tmp_path / "ck")))
        assert len(found.weights) == len(model.weights)
        assert found.parameters == model.count_params()
        assert found.optimizer_state


def test_a_checkpoint_and_a_saved_model_are_read_without_tensorflow(tf_keras: Any, tmp_path: Path) -> None:
    """The tensors of both are those that TensorFlow's own reader gives."""
    import tensorflow as tf

    model = nested(tf_keras).model
    model.save_weights(tmp_path / "ck" / "cp")
    model.save(tmp_path / "saved")
    for prefix in (tmp_path / "ck" / "cp", tmp_path / "saved" / "variables" / "variables"):
        bundle, judge = read_bundle(prefix), tf.train.load_checkpoint(str(prefix))
        assert set(bundle.entries) == set(judge.get_variable_to_shape_map())
        for name in bundle.entries:
            value, expected = bundle.read(name), judge.get_tensor(name)
            assert value.item() == expected if isinstance(expected, bytes) else np.array_equal(value, expected)
        assert bundle.missing_bytes() == {}
    for path in (tmp_path / "ck" / "cp", tmp_path / "saved"):
        found = inspect(path)
        assert found.parameters == model.count_params()
        assert "y/kernel" in found.weights
    assert inspect(tmp_path / "saved").signatures["serving_default"].inputs.keys() == {"x"}


def test_tables_of_strings_are_weights_too(keras: Any, tmp_path: Path) -> None:
    """A vocabulary in a SavedModel has a shape and a hash, and no mean."""
    texts(keras).model.export(tmp_path / "saved", verbose=False)
    keys = [each for each in inspect(tmp_path / "saved").weights.values() if each["dtype"] == "string"]
    assert keys
    assert keys[0]["mean"] is None
    assert len(keys[0]["sha256"]) == 64


def test_a_version_folder_shows_what_is_recorded(tmp_path: Path, capsys: Captured) -> None:
    """Signatures and weights are the folder's own; tag, source and parity are metadata.json's."""
    folder = write_version(tmp_path / "m", 3, told={"tag": "1.4.0", "training": {"loss": "mse", "seed": None}})
    assert main(["inspect", str(tmp_path / "m" / "1.4.0"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["path"]) == ("version_folder", str(folder))
    assert report["recorded"]["tag"] == "1.4.0"
    assert report["recorded"]["version"] == 3
    assert report["parity"]["max_abs_diff"] == 1e-7
    assert report["signatures"]["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": [None, 3]}}
    assert report["weights"]["dense/kernel"]["max"] == float(np.max(KERNEL))
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "version folder",
        "tag 1.4.0",
        "made from tiny",
        "max abs difference 1e-07",
        "dense/kernel",
        "loss: mse",
    ):
        assert part in shown


def test_the_fingerprint_is_tensorflows(tmp_path: Path) -> None:
    """The hashes of fingerprint.pb, read without TensorFlow, are those that TensorFlow reads."""
    import tensorflow as tf

    folder = write_version(tmp_path / "m", 1)
    found = read_fingerprint(folder)
    assert found is not None
    assert found.singleprint == tf.saved_model.experimental.read_fingerprint(str(folder)).singleprint()
    (folder / "fingerprint.pb").unlink()
    assert read_fingerprint(folder) is None


def test_unsafe_files_are_shown_not_refused(keras: Any, tmp_path: Path, capsys: Captured) -> None:
    """A Lambda layer and a link out of the file are findings; nothing is followed and the exit code is 0."""
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x * 2, name="twice")])
    model.save(tmp_path / "model.keras")
    assert main(["inspect", str(tmp_path / "model.keras"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert any("twice" in each["place"] and "Lambda" in each["what"] for each in findings)
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, name="d")]).save(tmp_path / "linked.h5")
    with h5py.File(tmp_path / "linked.h5", "r+") as file:
        group = file["model_weights/d"]
        (name, *_) = [each for each in group.attrs["weight_names"] if "kernel" in each]
        del group[name]
        group[name] = h5py.ExternalLink("elsewhere.h5", "/secret")
    found = inspect(tmp_path / "linked.h5")
    assert any("elsewhere.h5" in str(finding) for finding in found.findings)
    assert [each for each in found.weights if "kernel" in each] == []
    assert "security" in found.to_text()


def test_damage_inside_is_told(keras: Any, tmp_path: Path) -> None:
    """A file whose weights cannot be read is still looked at, and the trouble is told."""
    sequential(keras).model.save(tmp_path / "whole.keras")
    with zipfile.ZipFile(tmp_path / "whole.keras") as whole, zipfile.ZipFile(tmp_path / "cut.keras", "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[: len(content) // 2] if name.endswith(".h5") else content)
    found = inspect(tmp_path / "cut.keras")
    assert found.layers
    assert found.troubles
    assert "could not be read" in found.to_text()


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10, b"\x00" * 60])
def test_a_damaged_index_names_its_file(content: bytes, tmp_path: Path) -> None:
    """What is no index of a checkpoint is an error that names it."""
    (tmp_path / "cp.index").write_bytes(content)
    with pytest.raises(DecodeError, match=r"cp\.index"):
        read_bundle(tmp_path / "cp")


def test_no_model_is_an_error(tmp_path: Path) -> None:
    """A path that holds no model is refused in one line."""
    with pytest.raises(ExportError, match=r"none\.h5"):
        main(["inspect", str(tmp_path / "none.h5")])


def test_looking_loads_no_tensorflow(tmp_path: Path, keras: Any) -> None:
    """A model file and a version folder are shown by a process that never imports TensorFlow."""
    sequential(keras).model.save(tmp_path / "model.keras")
    folder = write_version(tmp_path / "m", 1)
    code = (
        "import sys; from tfbundle_exporter.reading.cli import main\n"
        f"main(['inspect', {str(tmp_path / 'model.keras')!r}]); main(['inspect', {str(folder)!r}])\n"
        "sys.exit(' '.join({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Conv2D" in done.stdout

"""Every kind of source of either Keras becomes a version that answers like it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import BUILDERS, Serve, Specimen, rows, sequential, texts, vocabulary_file
from tfbundle_exporter import ExportedVersion, export_model
from tfbundle_exporter.settings import SourceSettings
from tfbundle_exporter.sources.loading import load_model
from tfbundle_exporter.sources.security import scan
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.comparison import compare
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path


def check(exported: ExportedVersion, specimen: Specimen, serve: Serve) -> None:
    """Hold the published folder against what the model itself predicts, on rows that the exporter never saw."""
    signature = exported.metadata["signatures"]["serving_default"]
    names = [next(iter(signature["inputs"]))] if "" in specimen.inputs else list(specimen.inputs)
    assert sorted(signature["inputs"]) == sorted(names)
    assert sorted(signature["outputs"]) == sorted(specimen.outputs)
    assert all(spec["shape"][0] is None for spec in [*signature["inputs"].values(), *signature["outputs"].values()])
    served = serve(exported.path, dict(zip(names, specimen.inputs.values(), strict=True)))
    assert served.keys() == set(specimen.outputs)
    for name, expected in zip(specimen.outputs, specimen.answers(), strict=True):
        comparison = compare(expected, served[name])
        assert comparison.equal, f"{name}: {comparison.reason}"


def load(path: Path) -> Any:
    """Look a file over and load it as an export does, and go no further; an export takes ten times as long."""
    artefact = identify(path)
    assert scan(artefact) == []
    return load_model(artefact, SourceSettings())


@pytest.mark.parametrize("name", ["many", "recurrent"])
def test_live_models(name: str, k: Any, tmp_path: Path, serve: Serve) -> None:
    """A live model of either Keras is exported under its layers' names."""
    specimen = BUILDERS[name](k)
    exported = export_model(specimen.model, tmp_path / name)
    check(exported, specimen, serve)
    assert exported.metadata["source"]["kind"] == "live"
    assert exported.metadata["source"]["family"] == k.__name__


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_files(suffix: str, k: Any, tmp_path: Path, serve: Serve) -> None:
    """A file is exported by the Keras that wrote it, in both formats of both Kerases."""
    specimen = sequential(k)
    path = tmp_path / f"model{suffix}"
    specimen.model.save(path)
    exported = export_model(path, tmp_path / "m")
    check(exported, specimen, serve)
    source = exported.metadata["source"]
    assert source["kind"] == {".h5": "hdf5", ".keras": "keras_archive"}[suffix]
    assert (source["family"], source["keras_version"]) == (k.__name__, k.__version__)
    assert source["size"] == path.stat().st_size


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "built_by_call"])
def test_files_load_as_they_were(name: str, suffix: str, k: Any, tmp_path: Path) -> None:
    """Whatever a model is built of, its file gives the same Keras, the same layers and the same weights."""
    model = BUILDERS[name](k).model
    model.save(tmp_path / f"model{suffix}")
    loaded = load(tmp_path / f"model{suffix}")
    assert isinstance(loaded, k.Model)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    for mine, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_misnamed_file_is_told_by_its_content(suffix: str, k: Any, tmp_path: Path) -> None:
    """An HDF5 file named .keras, an archive named .h5 and either with any other name are what they are."""
    specimen = sequential(k)
    specimen.model.save(tmp_path / f"right{suffix}")
    image = specimen.inputs["image"]
    for name in (".h5", ".keras", ".hdf5", ".model", ""):
        shutil.copy(tmp_path / f"right{suffix}", tmp_path / f"wrong{name}")
        loaded = load(tmp_path / f"wrong{name}")
        assert isinstance(loaded, k.Model)
        np.testing.assert_array_equal(loaded(image, training=False), specimen.model(image, training=False))


def test_an_unzipped_archive(k: Any, tmp_path: Path) -> None:
    """The folder that a .keras unpacks to is loaded like the archive, by the Keras that wrote it."""
    specimen = sequential(k)
    specimen.model.save(tmp_path / "m.keras")
    shutil.unpack_archive(tmp_path / "m.keras", tmp_path / "m", "zip")
    image = specimen.inputs["image"]
    np.testing.assert_array_equal(load(tmp_path / "m")(image, training=False), specimen.model(image, training=False))


def test_weights_become_a_version(k: Any, tmp_path: Path, serve: Serve) -> None:
    """Weights with the text of their architecture are exported like a full model."""
    specimen = sequential(k)
    specimen.model.save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "net.json").write_text(specimen.model.to_json())
    exported = export_model(tmp_path / "w.weights.h5", tmp_path / "m", architecture=tmp_path / "net.json")
    check(exported, specimen, serve)
    assert exported.metadata["source"]["kind"] == "weights_v3"


def test_a_vocabulary_travels_along(k: Any, tmp_path: Path, serve: Serve) -> None:
    """Adapted vocabularies and vocabulary files are in the version; the original file is not needed any more."""
    specimen = texts(k)
    check(export_model(specimen.model, tmp_path / "texts"), specimen, serve)
    (tmp_path / "words").mkdir()
    specimen = vocabulary_file(k, tmp_path / "words")
    expected = specimen.answers()
    exported = export_model(specimen.model, tmp_path / "colours", example_inputs=specimen.inputs)
    shutil.rmtree(tmp_path / "words")
    moved = exported.path.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(serve(moved, specimen.inputs)["which"], expected[0])


def test_keras_2_hard_sigmoid_keeps_its_meaning(tf_keras: Any, keras: Any, tmp_path: Path, serve: Serve) -> None:
    """A Keras 2 LSTM with hard_sigmoid, which Keras 3 computes otherwise and says nothing, is exported right."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [layers.Input((6, 3), name="x"), layers.LSTM(4, recurrent_activation="hard_sigmoid", name="y")]
    )
    model.set_weights([3 * weight + 0.5 for weight in model.get_weights()])
    model.save(tmp_path / "lstm.h5")
    x = rows(6, 3)
    expected = model.predict(x, verbose=0)
    other = keras.layers.LSTM(4, recurrent_activation="hard_sigmoid")
    other.build((None, 6, 3))
    other.set_weights(model.get_weights())
    assert np.abs(np.asarray(other(x)) - expected).max() > 0.01, "the trap is gone; this test proves nothing"
    exported = export_model(tmp_path / "lstm.h5", tmp_path / "lstm")
    np.testing.assert_allclose(serve(exported.path, {"x": x})["y"], expected, atol=1e-6)


def test_the_version_in_the_file_decides(tf_keras: Any, tmp_path: Path) -> None:
    """What no loader says aloud is read from keras_version, also where old h5py wrote it as bytes."""
    import h5py

    sequential(tf_keras).model.save(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        file.attrs["keras_version"] = np.bytes_("2.2.4-tf")
        file.attrs["model_config"] = np.bytes_(file.attrs["model_config"].encode())
    artefact = identify(tmp_path / "old.h5")
    assert (artefact.family, artefact.keras_version) == ("tf_keras", "2.2.4-tf")
    assert isinstance(load(tmp_path / "old.h5"), tf_keras.Model)


def test_custom_objects(k: Any, tmp_path: Path, serve: Serve) -> None:
    """A layer class of the user's own is taken from custom_objects, and named where it is missing."""

    class Doubler(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2.0

    model = k.Sequential([k.layers.Input((2,), name="x"), Doubler(name="twice")])
    model.save(tmp_path / "own.h5")
    with pytest.raises(ExportError, match=r"'Doubler' \(in layer 'twice'\).*--custom-objects"):
        export_model(tmp_path / "own.h5", tmp_path / "m")
    exported = export_model(tmp_path / "own.h5", tmp_path / "m", custom_objects={"Doubler": Doubler})
    np.testing.assert_allclose(serve(exported.path, {"x": rows(2)})["twice"], 2 * rows(2))


def test_example_inputs_become_the_golden_rows(keras: Any, tmp_path: Path, serve: Serve) -> None:
    """golden.npz holds the given rows and what the source model said to them."""
    specimen = sequential(keras)
    images = rows(8, 8, 1, count=300)
    exported = export_model(specimen.model, tmp_path / "m", example_inputs=images)
    golden = read_golden(golden_path(exported.path))["serving_default"]
    np.testing.assert_array_equal(golden.inputs["image"], images[:256])
    expected = specimen.model.predict(images[:256], verbose=0)
    np.testing.assert_allclose(golden.outputs["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(serve(exported.path, dict(golden.inputs))["probabilities"], expected, atol=1e-6)
    assert exported.metadata["parity"]["rows"] == 256
    assert exported.metadata["batchable"] is True
    assert exported.metadata["deterministic"] is True


def test_names_can_be_chosen(k: Any, tmp_path: Path, serve: Serve) -> None:
    """Inputs, outputs and the signature are called as the user says."""
    specimen = BUILDERS["many"](k)
    exported = export_model(
        specimen.model,
        tmp_path / "m",
        input_names={"a-1": "left", "b": "right"},
        output_names=["score.x", "other"],
        signature="predict",
    )
    left, right = specimen.inputs.values()
    served = serve(exported.path, {"a-1": left, "b": right}, signature="predict")
    np.testing.assert_allclose(served["score.x"], specimen.answers()[0], atol=1e-6)
    assert list(exported.metadata["signatures"]) == ["predict"]
    assert exported.metadata["input_signature"].keys() == {"a-1", "b"}

"""Files that hold code, links or bombs are refused before anything loads them."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import sequential
from tfbundle_exporter import export_model
from tfbundle_exporter.sources.security import find_code, scan
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError


def lambda_model(k: Any, marker: Path) -> Any:
    """Build a model whose Lambda leaves a file behind whenever it runs."""
    name = str(marker)
    # A Lambda is saved as byte code without its globals, so what it calls must be in it.
    twice = k.layers.Lambda(lambda x: (__import__("pathlib").Path(name).touch(), x * 2)[1], name="twice")
    return k.Sequential([k.layers.Input((2,), name="x"), twice])


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_does_not_run(suffix: str, k: Any, tmp_path: Path) -> None:
    """Byte code is refused by name of its layer, and the marker file that it would make does not appear."""
    marker, path = tmp_path / "it_ran", tmp_path / f"code{suffix}"
    lambda_model(k, marker).save(path)
    marker.unlink(missing_ok=True)
    with pytest.raises(ExportError, match=r"refused before loading: layer 'twice' is a Lambda layer.*--allow-unsafe"):
        export_model(path, tmp_path / "m")
    assert not marker.exists()
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_lambda_runs_when_it_is_allowed(suffix: str, k: Any, tmp_path: Path, serve: Any) -> None:
    """allow_unsafe loads it, which shows that the marker would have appeared, and exports it right."""
    marker, path = tmp_path / "it_ran", tmp_path / f"code{suffix}"
    lambda_model(k, marker).save(path)
    marker.unlink(missing_ok=True)
    exported = export_model(path, tmp_path / "m", allow_unsafe=True)
    assert marker.exists()
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(serve(exported.path, {"x": x})["twice"], 2 * x)


def layer(class_name: str, name: str = "evil", **extra: Any) -> dict[str, Any]:
    """Write a layer's configuration."""
    config = {"name": name} | extra.pop("config", {})
    return {"class_name": class_name, "config": config, **extra}


BAD = {
    "lambda": layer("Lambda"),
    "registered lambda": layer("keras>Lambda"),
    "another SavedModel": layer("TFSMLayer"),
    "a module": layer("Dense", module="os"),
    "a module that looks like keras": layer("Dense", module="keras_evil.layers"),
    "a function of a module": layer(
        "Activation", config={"activation": {"class_name": "function", "module": "os", "config": "getcwd"}}
    ),
    "a lambda as activation": layer(
        "Dense", config={"activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}
    ),
    "an op that writes": layer("TFOpLambda", config={"function": "io.write_file"}),
    "an op that runs python": layer("TFOpLambda", config={"function": "compat.v1.py_func"}),
    "a vocabulary file": layer("StringLookup", config={"vocabulary": "/etc/passwd"}),
    "a function of keras that fetches files": layer(
        "Activation", config={"activation": {"class_name": "function", "module": "keras.utils", "config": "get_file"}}
    ),
    "the same as a class": layer(
        "Dense", config={"activation": {"class_name": "get_file", "module": "tf_keras.utils", "config": {"fname": "x"}}}
    ),
    "a function of keras that loads": layer(
        "Activation",
        config={
            "activation": {"class_name": "function", "module": "keras.src.saving.saving_api", "config": "load_model"}
        },
    ),
    "a function of python": layer(
        "Activation", config={"activation": {"class_name": "function", "module": "builtins", "config": "eval"}}
    ),
    "inside a wrapper": layer("TimeDistributed", "outer", config={"layer": layer("Lambda")}),
}
GOOD = {
    "keras 3": layer("Dense", module="keras.layers", registered_name=None),
    "keras 2": layer("Dense"),
    "keras's own function": layer(
        "Activation", config={"activation": {"class_name": "function", "module": "builtins", "config": "relu"}}
    ),
    "a function of keras that computes": layer(
        "Activation", config={"activation": {"class_name": "function", "module": "keras.activations", "config": "relu"}}
    ),
    "a class of keras.utils": layer("FeatureSpace", module="keras.utils"),
    "an op that computes": layer("TFOpLambda", config={"function": "math.multiply"}),
    "an op that decodes": layer("TFOpLambda", config={"function": "io.decode_raw"}),
    "a vocabulary": layer("StringLookup", config={"vocabulary": ["a", "b"]}),
    "a layer called lambda": layer("Dense", "Lambda"),
}


def architecture(node: dict[str, Any]) -> dict[str, Any]:
    """Put a layer into a Sequential."""
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [layer("InputLayer", "x"), node]}}


@pytest.mark.parametrize("case", BAD)
def test_configurations_that_are_found(case: str) -> None:
    """Each is found once, at its layer."""
    found = list(find_code(architecture(BAD[case])))
    assert [finding.place for finding in found] == ["layer 'evil'"]


@pytest.mark.parametrize("case", GOOD)
def test_configurations_that_are_not(case: str) -> None:
    """What every honest model holds is no finding."""
    assert list(find_code(architecture(GOOD[case]))) == []


def test_a_supplied_class_is_not_imported() -> None:
    """The module of a custom object does not matter where the user passes the class."""
    own = layer("Mine", module="my.layers", registered_name="pkg>Mine")
    assert len(list(find_code(architecture(own)))) == 1
    assert list(find_code(architecture(own), known_names={"Mine"})) == []
    assert list(find_code(architecture(own), known_names={"pkg>Mine"})) == []


def test_deep_configurations_do_not_overflow() -> None:
    """Nesting is walked, not recursed into."""
    node = layer("Lambda")
    for _ in range(50_000):
        node = {"class_name": "Wrapper", "config": {"layer": node}}
    assert len(list(find_code(node))) == 1


def refused(path: Path, base: Path, *expected: str) -> None:
    """Expect the exporter to refuse a file for those reasons."""
    with pytest.raises(ExportError, match="refused before loading") as caught:
        export_model(path, base)
    for text in expected:
        assert text in str(caught.value)
    assert not base.exists()


class TestHdf5:
    @pytest.fixture
    def file(self, keras: Any, tmp_path: Path) -> Path:
        """A whole model to be tampered with."""
        sequential(keras).model.save(tmp_path / "m.h5")
        return tmp_path / "m.h5"

    def test_a_whole_model_is_clean(self, file: Path) -> None:
        """What Keras writes is no finding."""
        assert scan(identify(file)) == []

    def test_links(self, file: Path, tmp_path: Path) -> None:
        """Links into other files and within the file are refused; Keras makes neither."""
        import h5py

        with h5py.File(file, "r+") as h5:
            h5["model_weights/elsewhere"] = h5py.ExternalLink("/etc/secret.h5", "/x")
            h5["soft"] = h5py.SoftLink("/model_weights")
        refused(file, tmp_path / "m", "/model_weights/elsewhere is a link to '/etc/secret.h5'", "/soft is a link")

    def test_datasets_in_other_files(self, file: Path, tmp_path: Path) -> None:
        """Values that lie in another file, or are put together from others, are refused."""
        import h5py

        with h5py.File(file, "r+") as h5:
            h5.create_dataset("model_weights/w", (4,), "f4", external=[("/etc/passwd", 0, 16)])
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "w", (4,))
            h5.create_virtual_dataset("model_weights/v", layout)
        refused(file, tmp_path / "m", "other file '/etc/passwd'", "virtual dataset")

    def test_a_bomb(self, file: Path, tmp_path: Path) -> None:
        """A dataset of a terabyte in a small file is refused without reading it."""
        import h5py

        with h5py.File(file, "r+") as h5:
            h5.create_dataset("model_weights/huge", (1 << 38,), "f4", chunks=(1 << 20,))
        refused(file, tmp_path / "m", "claims 1099")

    def test_pickles(self, file: Path, tmp_path: Path) -> None:
        """A pickle in a dataset or an attribute is refused; weights of uint8 are none."""
        import h5py

        pickled = pickle.dumps({"a": list(range(100))})
        with h5py.File(file, "r+") as h5:
            h5["bytes"] = np.frombuffer(pickled, np.uint8)
            h5["opaque"] = np.void(pickled)
            h5["model_weights"].attrs["settings"] = np.void(pickled)
            h5["quantized"] = np.arange(128, 256, dtype=np.uint8).reshape(8, 16)
        places = {finding.place for finding in scan(identify(file))}
        assert places == {"m.h5, /bytes", "m.h5, /opaque", "m.h5, attribute settings of /model_weights"}
        refused(file, tmp_path / "m", "pickle, which runs code")

    def test_weights_files(self, k: Any, tmp_path: Path) -> None:
        """Weights without an architecture are looked over like whole models."""
        import h5py

        path = tmp_path / "m.weights.h5"
        sequential(k).model.save_weights(path)
        assert scan(identify(path)) == []
        with h5py.File(path, "r+") as h5:
            h5["layers/elsewhere"] = h5py.ExternalLink("/etc/secret.h5", "/x")
        assert [str(finding) for finding in scan(identify(path))] == [
            "m.weights.h5, /layers/elsewhere is a link to '/etc/secret.h5'"
        ]

    def test_links_in_circles(self, file: Path) -> None:
        """A group that contains itself is looked at once."""
        import h5py

        with h5py.File(file, "r+") as h5:
            h5["model_weights/again"] = h5["model_weights"]
        assert scan(identify(file)) == []


class TestArchive:
    def archive(self, keras: Any, tmp_path: Path, **entries: bytes) -> Path:
        """Add entries to a whole archive."""
        path = tmp_path / "m.keras"
        sequential(keras).model.save(path)
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return path

    def test_a_whole_model_is_clean(self, keras: Any, tmp_path: Path) -> None:
        """What Keras writes is no finding."""
        assert scan(identify(self.archive(keras, tmp_path))) == []

    @pytest.mark.parametrize("name", ["../evil", "/etc/evil", "assets/../../evil", "C:\\evil", "a\\..\\..\\evil"])
    def test_zip_slip(self, name: str, keras: Any, tmp_path: Path) -> None:
        """An entry that would land outside of the folder is refused."""
        refused(self.archive(keras, tmp_path, **{name: b"x"}), tmp_path / "m", "outside of its folder")

    def test_a_symbolic_link(self, keras: Any, tmp_path: Path) -> None:
        """An entry that is a link would lead later ones elsewhere."""
        path = self.archive(keras, tmp_path)
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(link, "/etc")
        refused(path, tmp_path / "m", "is a symbolic link")

    def test_a_bomb(self, keras: Any, tmp_path: Path) -> None:
        """What would unpack to gigabytes is refused by what it claims."""
        path = self.archive(keras, tmp_path)
        packed = zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1)
        with packed as archive, archive.open("assets/zeros", "w") as entry:
            block = bytes(1 << 24)
            for _ in range(65):
                entry.write(block)
        refused(path, tmp_path / "m", "would unpack to 10")

    def test_a_pickle(self, keras: Any, tmp_path: Path) -> None:
        """A pickle among the entries is refused, whatever it is called."""
        path = self.archive(keras, tmp_path, **{"assets/words.txt": pickle.dumps(["a"] * 100)})
        refused(path, tmp_path / "m", "entry 'assets/words.txt' is a pickle")

    def test_links_in_the_weights(self, keras: Any, tmp_path: Path) -> None:
        """The weights inside are HDF5 and are looked over like any."""
        import h5py

        sequential(keras).model.save(tmp_path / "m.keras")
        with zipfile.ZipFile(tmp_path / "m.keras") as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        (tmp_path / "w.h5").write_bytes(entries["model.weights.h5"])
        with h5py.File(tmp_path / "w.h5", "r+") as h5:
            h5["layers/out"] = h5py.ExternalLink("/etc/secret.h5", "/x")
        entries["model.weights.h5"] = (tmp_path / "w.h5").read_bytes()
        with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        refused(tmp_path / "m.keras", tmp_path / "m", "'model.weights.h5', /layers/out is a link")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a SavedModel, an unzipped .keras model and a checkpoint."""
    import keras
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sequential(keras).model
        model.save(folder / "keras_folder", zipped=False)
        model.export(folder / "saved_model", verbose=False)
        tf.train.Checkpoint(model=model).write(str(folder / "checkpoint" / "c"))
    return folder


class TestFolders:
    @pytest.fixture
    def source(self, made: Path, tmp_path: Path) -> Path:
        """Copy them, to be tampered with."""
        shutil.copytree(made, tmp_path / "made")
        return tmp_path / "made"

    @pytest.mark.parametrize("kind", ["keras_folder", "saved_model"])
    def test_what_does_not_belong(self, kind: str, source: Path, tmp_path: Path) -> None:
        """Links out of the folder and pickles in it are refused by name; a link inside is none of them."""
        folder = source / kind
        (folder / "assets").mkdir(exist_ok=True)
        (folder / "assets" / "inside").symlink_to("../fingerprint.pb")
        (folder / "assets" / "passwords").symlink_to("/etc/passwd")
        (folder / "assets" / "all").symlink_to("/etc")
        (folder / "side.bin").write_bytes(pickle.dumps(["a"] * 100))
        assert {str(finding).partition(", file ")[2] for finding in scan(identify(folder))} == {
            "'assets/passwords' is a link to '/etc/passwd', outside of the folder",
            "'assets/all' is a link to '/etc', outside of the folder",
            "'side.bin' is a pickle, which runs code when it is read",
        }
        refused(folder, tmp_path / "m", "'/etc/passwd'")

    def test_an_unzipped_model(self, source: Path, tmp_path: Path) -> None:
        """Its configuration and its weights are looked over like those of an archive."""
        import h5py

        folder = source / "keras_folder"
        config = json.loads((folder / "config.json").read_bytes())
        config["config"]["layers"][1]["module"] = "antigravity"
        (folder / "config.json").write_text(json.dumps(config))
        with h5py.File(folder / "model.weights.h5", "r+") as h5:
            h5["elsewhere"] = h5py.ExternalLink("/etc/secret.h5", "/x")
        refused(folder, tmp_path / "m", "imports the module 'antigravity'", "/elsewhere is a link to '/etc/secret.h5'")

    def test_an_asset_that_lies_elsewhere(self, source: Path, tmp_path: Path) -> None:
        """A SavedModel that names an asset outside of its folder is refused before TensorFlow reads it."""
        from tensorflow.core.protobuf import saved_model_pb2

        path = source / "saved_model" / "saved_model.pb"
        message = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        message.meta_graphs[0].asset_file_def.add(filename="../../../etc/passwd")
        path.write_bytes(message.SerializeToString())
        refused(path.parent, tmp_path / "m", "asset '../../../etc/passwd' would be read from outside")

    def test_a_checkpoint(self, source: Path) -> None:
        """Data that lies elsewhere, and values that are larger than their files could hold, are found."""
        found = identify(source / "checkpoint" / "c")
        assert scan(found) == []
        assert "claims 1099511627776 values" in str(scan(replace(found, weights={"huge": (1 << 40,)}))[0])
        data = found.files[0]
        shutil.move(data, source / "elsewhere")
        data.symlink_to(source / "elsewhere")
        assert [finding.what.partition(",")[2] for finding in scan(identify(found.path))] == [" outside of the folder"]


def test_a_saved_model_of_keras_2_with_a_lambda(tf_keras: Any, tmp_path: Path) -> None:
    """There the byte code is dead, since the graph is what runs; so it is no reason to refuse."""
    path = tmp_path / "saved"
    lambda_model(tf_keras, tmp_path / "marker").save(path)
    found = identify(path)
    assert found.architecture is not None
    assert [finding.place for finding in find_code(found.architecture)] == ["layer 'twice'"]
    assert scan(found) == []


def test_a_foreign_module_in_an_archive(keras: Any, tmp_path: Path) -> None:
    """A configuration that names a module is refused before that is imported."""
    path = tmp_path / "m.keras"
    sequential(keras).model.save(path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    config["config"]["layers"][1]["module"] = "antigravity"
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    refused(path, tmp_path / "m", "imports the module 'antigravity'", "layer 'conv2d")
    assert "antigravity" not in sys.modules

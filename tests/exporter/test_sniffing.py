"""Every artefact is told by its bytes and records, whatever it is called, without loading it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfbundle_exporter.sources.artefacts import Artefact, hash_artefact
from tfbundle_exporter.sources.security import scan
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError


def recurrent(k: Any) -> Any:
    """Build and compile a model whose layers have names of their own."""
    model = k.Sequential(
        [k.layers.Input((4, 3)), k.layers.LSTM(2, name="memory"), k.layers.Dense(2, name="out")], name="net"
    )
    model.compile("sgd", "mse")
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every kind of artefact with its own writer: k2/ by Keras 2, k3/ by Keras 3, tf/ by TensorFlow."""
    import keras
    import tensorflow as tf
    import tf_keras

    folder = tmp_path_factory.mktemp("made")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, k in (("k2", tf_keras), ("k3", keras)):
            here, model = folder / name, recurrent(k)
            here.mkdir()
            for file in ("full.h5", "full.keras"):
                model.save(here / file)
            model.save_weights(here / "w.weights.h5")
            tf.train.Checkpoint(model=model).save(str(here / "objects" / "ckpt"))
            tf.saved_model.save(model, str(here / "tf_saved"))
            if k is keras:
                model.save(here / "unzipped", zipped=False)
                model.export(here / "exported", verbose=False)
            else:
                model.save(here / "saved")
                model.save_weights(here / "early.h5")
                model.save_weights(str(here / "weights" / "cp-0003.ckpt"))
        _write_tensorflow(tf, folder / "tf")
    return folder


def _write_tensorflow(tf: Any, folder: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable(tf.ones((3, 2)))
    tf.train.Checkpoint(m=module).write(str(folder / "nameless") + "/")
    tf.train.Checkpoint(module).write(str(folder / "module" / "ck"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 3))
        y = x @ tf.compat.v1.get_variable("dense/w", (3, 2))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "v1" / "model.ckpt-5"))
        tf.compat.v1.saved_model.simple_save(session, str(folder / "v1_saved"), {"x": x}, {"y": y})


KINDS = {
    "k2/full.h5": ("hdf5", "tf_keras", "Keras 2."),
    "k3/full.h5": ("hdf5", "keras", "Keras 3."),
    "k2/full.keras": ("keras_archive", "tf_keras", "Keras 2."),
    "k3/full.keras": ("keras_archive", "keras", "Keras 3."),
    "k3/unzipped": ("keras_folder", "keras", "Keras 3."),
    "k2/early.h5": ("weights_keras2", "tf_keras", "Keras 2."),
    "k2/w.weights.h5": ("weights_v3", None, "Keras 2.12 or later"),
    "k3/w.weights.h5": ("weights_v3", None, "Keras 3"),
    "k2/weights/cp-0003.ckpt": ("checkpoint", "tf_keras", "TensorFlow 2, Keras 2"),
    "k2/objects": ("checkpoint", "tf_keras", "TensorFlow 2, Keras 2"),
    "k3/objects": ("checkpoint", "keras", "TensorFlow 2, Keras 3"),
    "tf/module/ck": ("checkpoint", None, "TensorFlow 2"),
    "k2/saved": ("saved_model", "tensorflow", "Keras 2 model.save, TensorFlow 2."),
    "k2/tf_saved": ("saved_model", "tensorflow", "Keras 2 model.save, TensorFlow 2."),
    "k3/exported": ("saved_model", "tensorflow", "Keras model.export, TensorFlow 2."),
    "k3/tf_saved": ("saved_model", "tensorflow", "tf.saved_model.save, TensorFlow 2."),
    "tf/v1_saved": ("saved_model", "tensorflow", "TensorFlow 1 or Estimator, TensorFlow 2."),
}
HAS_ARCHITECTURE = {"k2/full.h5", "k3/full.h5", "k2/full.keras", "k3/full.keras", "k3/unzipped", "k2/saved"}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name: str, made: Path) -> None:
    """Kind, package, writer, architecture and files are told, and what an honest writer wrote is no hazard."""
    artefact = identify(made / name)
    kind, family, writer = KINDS[name]
    assert (artefact.kind, artefact.family) == (kind, family)
    assert artefact.writer.startswith(writer)
    assert (artefact.architecture is not None) == (name in HAS_ARCHITECTURE)
    assert artefact.needs_architecture == (kind in ("weights_keras2", "weights_v3", "checkpoint"))
    assert artefact.size == sum(path.stat().st_size for path in artefact.files) > 0
    assert scan(artefact) == []


@pytest.mark.parametrize(
    "name", ["k2/early.h5", "k2/w.weights.h5", "k3/w.weights.h5", "k2/weights", "k2/objects", "k3/objects"]
)
def test_shapes_of_weights(name: str, made: Path) -> None:
    """Weights tell the shapes of what they hold."""
    assert {(3, 8), (2, 8), (2, 2)} <= set(identify(made / name).weights.values())


def test_names_of_layers(made: Path) -> None:
    """Layers are named where the file names them."""
    assert identify(made / "k2/early.h5").layers == ("memory", "out")
    assert "out" in identify(made / "k3/w.weights.h5").layers
    assert "net/out" in identify(made / "k3/objects").layers


def test_what_a_saved_model_says(made: Path) -> None:
    """Signatures, tags and, from Keras 2, the model's own configuration are read from it."""
    saved = identify(made / "k2/saved")
    assert saved.saved_model is not None
    assert (saved.saved_model.flavour, saved.saved_model.signatures) == ("keras2", ("serving_default",))
    assert saved.saved_model.tags == (frozenset({"serve"}),)
    assert saved.keras_version.startswith("2.")
    assert saved.architecture is not None
    assert saved.architecture["config"]["name"] == "net"
    assert saved.training["loss"] == "mse"
    exported = identify(made / "k3/exported").saved_model
    assert exported is not None
    assert (exported.flavour, exported.signatures) == ("keras_export", ("serve", "serving_default"))
    old = identify(made / "tf/v1_saved").saved_model
    assert old is not None
    assert (old.flavour, old.object_nodes) == ("tf1", 0)


def test_a_saved_model_as_text(made: Path, tmp_path: Path) -> None:
    """A saved_model.pbtxt tells the same."""
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((made / "k3/exported/saved_model.pb").read_bytes())
    (tmp_path / "saved_model.pbtxt").write_text(text_format.MessageToString(message))
    assert identify(tmp_path).saved_model == identify(made / "k3/exported").saved_model


def test_misleading_names(made: Path, tmp_path: Path) -> None:
    """A zip called .h5, HDF5 called .keras and a folder called .h5 are what they are."""
    shutil.copy(made / "k3/full.keras", tmp_path / "zip.h5")
    shutil.copy(made / "k2/full.h5", tmp_path / "hdf5.keras")
    shutil.copytree(made / "k3/exported", tmp_path / "folder.h5")
    shutil.copy(made / "k2/early.h5", tmp_path / "weights.keras")
    found = {path.name: identify(path).kind for path in tmp_path.iterdir()}
    assert found == {
        "zip.h5": "keras_archive",
        "hdf5.keras": "hdf5",
        "folder.h5": "saved_model",
        "weights.keras": "weights_keras2",
    }
    assert identify(tmp_path / "hdf5.keras").suffix == ".h5"


def test_no_tensorflow_to_look(made: Path) -> None:
    """Looking at any artefact takes no TensorFlow, which takes seconds to import."""
    code = (
        "import sys; from tfbundle_exporter.sources.sniffing import identify;"
        "[identify(path) for path in sys.argv[1:]]; sys.exit('tensorflow' in sys.modules)"
    )
    paths = [str(made / name) for name in KINDS]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == 0


def test_a_version_that_is_told_in_the_second_place(made: Path, tmp_path: Path) -> None:
    """A full model repeats its writer at its weights, which is believed when the root has lost it."""
    import h5py

    shutil.copy(made / "k3/full.h5", tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file.attrs["keras_version"]
    assert identify(tmp_path / "m.h5").family == "keras"


class TestCheckpointPaths:
    @pytest.mark.parametrize(
        "typed", ["", "cp-0003.ckpt", "cp-0003.ckpt.index", "cp-0003.ckpt.data-00000-of-00001", "checkpoint"]
    )
    def test_what_people_type(self, typed: str, made: Path) -> None:
        """Folder, prefix, index, data file and state file all mean the same checkpoint."""
        artefact = identify(made / "k2/weights" / typed)
        assert artefact.path == made / "k2/weights/cp-0003.ckpt"
        assert artefact.prefix == str(artefact.path)
        assert [path.suffix for path in artefact.files] == [".data-00000-of-00001", ".index"]

    @pytest.mark.parametrize("typed", ["", ".index", ".data-00000-of-00001"])
    def test_a_prefix_without_a_name(self, typed: str, made: Path) -> None:
        """A prefix may end in nothing; TensorFlow reads what `prefix` says."""
        import tensorflow as tf

        artefact = identify(made / "tf/nameless" / typed)
        assert artefact.weights == {"m/w": (3, 2)}
        reader = tf.compat.v1.train.NewCheckpointReader(artefact.prefix)
        assert "m/w/.ATTRIBUTES/VARIABLE_VALUE" in reader.get_variable_to_shape_map()

    def state(self, made: Path, tmp_path: Path, written: str) -> Artefact:
        """Identify a copy of the folder, with that path in its state file."""
        folder = tmp_path / "moved"
        shutil.copytree(made / "k2/weights", folder)
        shutil.copytree(made / "k2/weights", tmp_path / "elsewhere")
        (folder / "link").symlink_to(tmp_path / "elsewhere")
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{written}"\n')
        return identify(folder)

    def test_a_folder_that_was_moved(self, made: Path, tmp_path: Path) -> None:
        """The absolute path of the machine that trained means the same name in this folder."""
        artefact = self.state(made, tmp_path, "/gone/away/cp-0003.ckpt")
        assert artefact.path == tmp_path / "moved/cp-0003.ckpt"

    @pytest.mark.parametrize(
        "written", ["../elsewhere/cp-0003.ckpt", "a/../../elsewhere/cp-0003.ckpt", "link/cp-0003.ckpt"]
    )
    def test_a_path_that_leads_outside(self, written: str, made: Path, tmp_path: Path) -> None:
        """A state file that leads out of its folder is refused, though the checkpoint is there."""
        with pytest.raises(ExportError, match="outside of its folder"):
            self.state(made, tmp_path, written)

    def test_a_path_that_is_missing(self, made: Path, tmp_path: Path) -> None:
        """What the state file names and the folder lacks is named."""
        with pytest.raises(ExportError, match=r"names 'cp-0009.ckpt' as the latest, but cp-0009.ckpt.index is not"):
            self.state(made, tmp_path, "cp-0009.ckpt")

    def test_files_that_are_missing_or_cut_off(self, made: Path, tmp_path: Path) -> None:
        """Each half of a checkpoint is missed by its name, and a data file that ends early is called damaged."""
        shutil.copytree(made / "k2/weights", tmp_path / "c")
        data, index = (tmp_path / f"c/cp-0003.ckpt.{end}" for end in ("data-00000-of-00001", "index"))
        whole = data.read_bytes()
        data.write_bytes(whole[:40])
        with pytest.raises(ExportError, match=r"data-00000-of-00001 is damaged: it ends \d+ bytes early"):
            identify(tmp_path / "c/cp-0003.ckpt")
        data.unlink()
        with pytest.raises(ExportError, match=r"lacks its file cp-0003\.ckpt\.data-00000-of-00001"):
            identify(tmp_path / "c/cp-0003.ckpt")
        data.write_bytes(whole)
        table = index.read_bytes()
        index.write_bytes(table[:-60] + table[-48:])
        with pytest.raises(ExportError, match=r"cp-0003\.ckpt\.index is damaged"):
            identify(tmp_path / "c/cp-0003.ckpt")
        index.unlink()
        with pytest.raises(ExportError, match=r"without its file cp-0003\.ckpt\.index"):
            identify(data)

    @pytest.mark.parametrize("typed", ["", "/model.ckpt-5", "/model.ckpt-5.index"])
    def test_tensorflow_1(self, typed: str, made: Path) -> None:
        """A checkpoint of names alone is called what it is, with the way out."""
        with pytest.raises(ExportError, match=r"checkpoint of TensorFlow 1 of variables such as 'dense/w'.*SavedModel"):
            identify(f"{made}/tf/v1{typed}")

    def test_the_values_of_a_saved_model(self, made: Path) -> None:
        """A SavedModel's variables folder is no model of its own."""
        with pytest.raises(ExportError, match="give the folder above it"):
            identify(made / "k3/exported/variables")


FOREIGN = {
    "gzip": (b"\x1f\x8b\x08\x00", "gzip file: unpack it"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x031.9", "ONNX model"),
    "tflite": (b"\x1c\x00\x00\x00TFL3\x14\x00", "TensorFlow Lite model"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}.", "a pickle, as joblib"),
    "numpy": (b"\x93NUMPY\x01\x00v\x00{", "numpy array"),
    "web page": (b"\n<!DOCTYPE html><html>Not Found", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "json": (b'{"class_name": "Sequential", "config": {}}', "--architecture FILE"),
    "yaml": (b"backend: tensorflow\nclass_name: Sequential\nconfig:\n", "--architecture FILE"),
    "tfjs": (b'{"format": "layers-model", "modelTopology": {}}', "tensorflowjs_converter"),
    "text": (b"these are my notes", "begins with b'these are my not"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_of_others(case: str, tmp_path: Path) -> None:
    """What no Keras wrote is called by its name, in one line that says what to do."""
    content, expected = FOREIGN[case]
    (tmp_path / "model.h5").write_bytes(content)
    with pytest.raises(ExportError) as caught:
        identify(tmp_path / "model.h5")
    assert "model.h5 is not a Keras model: expected HDF5" in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archives_of_others(tmp_path: Path) -> None:
    """Tar files, arrays, PyTorch's zips and zips around a model are told apart."""
    (tmp_path / "x").write_bytes(b"x")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.add(tmp_path / "x", "x")
    np.savez(tmp_path / "m.npz", a=np.zeros(2))
    for name, entry in (("torch.pt", "archive/data.pkl"), ("around.zip", "models/inner.keras")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(entry, b"x")
    for name, expected in {
        "m.tar": "a tar archive",
        "m.npz": "numpy arrays",
        "torch.pt": "a PyTorch model",
        "around.zip": r"a model inside \(models/inner.keras\): unpack it",
    }.items():
        with pytest.raises(ExportError, match=expected):
            identify(tmp_path / name)


def test_parts_of_a_saved_model(made: Path, tmp_path: Path) -> None:
    """The files of a SavedModel lead to their folder, and a damaged one is called so."""
    for name in ("saved_model.pb", "keras_metadata.pb"):
        with pytest.raises(ExportError, match="give the folder that it lies in"):
            identify(made / "k2/saved" / name)
    content = (made / "k2/saved/saved_model.pb").read_bytes()
    (tmp_path / "saved_model.pb").write_bytes(content[: len(content) // 2])
    with pytest.raises(ExportError, match=r"saved_model\.pb is not a SavedModel.*damaged"):
        identify(tmp_path)


def test_an_unzipped_model_that_lacks_a_file(made: Path, tmp_path: Path) -> None:
    """The file that is missing is named."""
    shutil.copytree(made / "k3/unzipped", tmp_path / "m")
    (tmp_path / "m/model.weights.h5").unlink()
    with pytest.raises(ExportError, match=r"without its model\.weights\.h5"):
        identify(tmp_path / "m")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """What the file system refuses is said of the file, in one line."""
    loop = tmp_path / "loop.h5"
    loop.symlink_to(loop)
    with pytest.raises(ExportError, match=r"loop\.h5 cannot be read: Too many levels"):
        identify(loop)


def test_the_name_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is given as "." has its folder's name."""
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    here = Artefact(path=Path(), kind="saved_model", family="tensorflow", size=0, files=(), writer="nobody")
    assert here.name == "model"
    assert str(here) == "model (SavedModel, nobody, 0.0 MB)"


def test_one_hash_for_all_files(made: Path, tmp_path: Path) -> None:
    """A file's hash is its SHA-256; a folder's is that of the list that sha256sum prints of its files."""
    file = identify(made / "k3/full.keras")
    assert hash_artefact(file) == hashlib.sha256((made / "k3/full.keras").read_bytes()).hexdigest()
    folder = made / "k2/saved"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    listed = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert hash_artefact(identify(folder)) == hashlib.sha256(listed.encode()).hexdigest()
    shutil.copytree(made / "k2/weights", tmp_path / "elsewhere")
    assert hash_artefact(identify(tmp_path / "elsewhere")) == hash_artefact(identify(made / "k2/weights"))


def test_weights_of_keras_1_and_many_layers(tmp_path: Path) -> None:
    """Weights that do not say who wrote them go to Keras 2, and names in pieces are joined."""
    import h5py

    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names0"] = np.array([b"a", b"b"])
        file.attrs["layer_names1"] = np.array([b"lstm_1"])
        file["lstm_1/lstm_1_W_i"] = np.zeros((2, 2))
    artefact = identify(tmp_path / "w.h5")
    assert (artefact.family, artefact.writer, artefact.layers) == ("tf_keras", "Keras 1", ("a", "b", "lstm_1"))


def test_keras_metadata_that_is_damaged(made: Path, tmp_path: Path) -> None:
    """A file beside the graph that is no protobuf, or no JSON inside, is named."""
    shutil.copytree(made / "k2/saved", tmp_path / "m")
    (tmp_path / "m/keras_metadata.pb").write_bytes(b"\x0a\xff\x01")
    with pytest.raises(ExportError, match=r"keras_metadata\.pb is damaged"):
        identify(tmp_path / "m")
    node = b"\x1a\x04root\x2a\x03{.}"
    (tmp_path / "m/keras_metadata.pb").write_bytes(b"\x0a" + bytes([len(node)]) + node)
    with pytest.raises(
        ExportError, match=r"keras_metadata\.pb is damaged: its metadata of the root object is not JSON"
    ):
        identify(tmp_path / "m")

"""What is no model gets one clear line that names it, before anything is written."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import rows, sequential
from tfbundle_exporter import Image, export_model
from tfbundle_serving.apis.errors import ExportError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where nothing may appear."""
    return tmp_path / "models" / "m"


def refused(source: Any, base: Path, **options: Any) -> str:
    """Expect an ExportError and no trace of an export; give the message."""
    with pytest.raises(ExportError) as caught:
        export_model(source, base, **options)
    assert not base.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file(tmp_path: Path, base: Path) -> None:
    """A path that does not exist is named."""
    assert "no_such.h5: there is no such file" in refused(tmp_path / "no_such.h5", base)


@pytest.mark.parametrize("content", [b"", b"these are my notes\n", b"\x89HDF", b"PK", b"\x80\x04\x95"])
def test_a_file_that_is_no_model(content: bytes, tmp_path: Path, base: Path) -> None:
    """What was expected and what the file begins with are said."""
    (tmp_path / "notes.h5").write_bytes(content)
    message = refused(tmp_path / "notes.h5", base)
    assert "notes.h5 is not a Keras model" in message
    assert "HDF5" in message


def test_a_folder(tmp_path: Path, base: Path) -> None:
    """A folder without a model is said to be one, and one with an empty SavedModel is damaged."""
    (tmp_path / "d").mkdir()
    assert "is a folder without a model" in refused(tmp_path / "d", base)
    (tmp_path / "d" / "saved_model.pb").touch()
    assert "saved_model.pb is empty, expected a SavedModel; the file is damaged" in refused(tmp_path / "d", base)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_truncated_file(suffix: str, share: float, keras: Any, tmp_path: Path, base: Path) -> None:
    """A file that was cut off is called damaged."""
    sequential(keras).model.save(tmp_path / f"whole{suffix}")
    content = (tmp_path / f"whole{suffix}").read_bytes()
    (tmp_path / f"half{suffix}").write_bytes(content[: int(len(content) * share)])
    message = refused(tmp_path / f"half{suffix}", base)
    assert f"half{suffix}" in message
    assert "damaged" in message


def test_an_hdf5_file_of_something_else(tmp_path: Path, base: Path) -> None:
    """HDF5 is a container for many things."""
    import h5py

    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.zeros(3)
    assert "no attribute model_config" in refused(tmp_path / "data.h5", base)


def test_weights_without_an_architecture(k: Any, tmp_path: Path, base: Path) -> None:
    """Weights alone say nothing of the layers."""
    sequential(k).model.save_weights(tmp_path / "m.weights.h5")
    message = refused(tmp_path / "m.weights.h5", base)
    assert "holds weights alone" in message
    assert "--architecture" in message


def test_a_zip_of_something_else(tmp_path: Path, base: Path) -> None:
    """A zip is a .keras archive only with its two JSON files."""
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    assert "lacks config.json" in refused(tmp_path / "m.keras", base)


@pytest.mark.parametrize(
    ("metadata", "config", "expected"),
    [
        ("{}", "{}", "does not record which Keras wrote it"),
        ('{"keras_version": "4.0.0"}', "{}", "records Keras 4.0.0"),
        ('{"keras_version": null}', "{}", "does not record"),
        ("[]", "{}", "metadata.json is a JSON list"),
        ('{"keras_version": "3.1.0"}', "{", "config.json is not JSON"),
        ('{"keras_version": "3.1.0"}', "[" * 200_000, "config.json is not JSON"),
        (
            '{"keras_version": "3.1.0"}',
            '{"class_name": "Nonsense", "config": {}}',
            "--custom-objects MODULE:Nonsense (custom_objects={'Nonsense': ...})",
        ),
        ('{"keras_version": "3.1.0"}', '{"class_name": "Sequential"}', "could not be loaded by keras"),
    ],
)
def test_archives_that_say_nonsense(metadata: str, config: str, expected: str, tmp_path: Path, base: Path) -> None:
    """An archive's JSON is read with care, and a Keras that nobody knows is not guessed at."""
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("metadata.json", metadata)
        archive.writestr("config.json", config)
    assert expected in refused(tmp_path / "m.keras", base)


def test_an_h5_without_version_is_not_guessed(keras: Any, tmp_path: Path, base: Path) -> None:
    """Which Keras wrote a file decides what it computes, so no answer is no model."""
    import h5py

    sequential(keras).model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file.attrs["keras_version"]
        del file["model_weights"].attrs["keras_version"]
    assert "does not record which Keras wrote it" in refused(tmp_path / "m.h5", base)


def test_weights_that_do_not_fit(keras: Any, tmp_path: Path, base: Path) -> None:
    """An architecture that was edited fails with Keras's reason and the file's name."""
    import h5py

    sequential(keras).model.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1]["config"]["units"] = 11
        file.attrs["model_config"] = json.dumps(config)
    message = refused(tmp_path / "m.h5", base)
    assert "m.h5" in message
    assert "could not be loaded by keras 3" in message


@pytest.mark.parametrize("source", [42, None, object(), np.zeros(3), ["model.h5"]])
def test_objects_that_are_no_models(source: Any, base: Path) -> None:
    """The type that came is named."""
    assert type(source).__name__ in refused(source, base)


def test_a_subclassed_model_says_what_is_missing(k: Any, base: Path) -> None:
    """A model that does not know its inputs is refused with the way out."""

    class Own(k.Model):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    for model in (Own(name="own"), k.Sequential([k.layers.Dense(1)], name="own")):
        message = refused(model, base)
        assert "'own' was never called" in message
        assert "--examples FILE (example_inputs=)" in message


def test_sparse_and_ragged_inputs(k: Any, base: Path) -> None:
    """Neither can be sent as one dense tensor, and Keras 3 would export them as one in silence."""
    x = k.Input((4,), sparse=True, name="bag")
    assert "'bag' is sparse or ragged" in refused(k.Model(x, k.layers.Dense(1)(x)), base)


class TestExampleInputs:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (rows(9), "example input 'left': expected float32 (?, 3), got float32 (5, 9)"),
            (rows(3).ravel(), "got float32 (15,)"),
            (rows(3).astype(complex), "got complex128 (5, 3), which would lose information"),
            (np.array([["a", "b", "c"]]), "expected float32 (?, 3), got <U1 (1, 3)"),
            (rows(3, count=0), "at least one"),
            (rows(3, count=4), "the same number of rows"),
            (np.array([[None] * 3] * 5), "got object (5, 3)"),
        ],
    )
    def test_wrong_values(self, given: Any, expected: str, keras: Any, base: Path) -> None:
        """The input, what it takes and what came are said."""
        from tests.exporter.zoo import many

        right = np.zeros((5, 2), np.int32)
        assert expected in refused(many(keras).model, base, example_inputs={"left": given, "right": right})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"left": rows(3)}, "lack 'right'; the model's inputs are left, right"),
            ({"left": rows(3), "rihgt": rows(2)}, "name 'rihgt', which is no input"),
            (rows(3), "a mapping from name to array; the model's inputs are left, right"),
            ([rows(3)], "a mapping from name to array"),
        ],
    )
    def test_wrong_names(self, given: Any, expected: str, keras: Any, base: Path) -> None:
        """Names that are missing or unknown are listed beside the right ones."""
        from tests.exporter.zoo import many

        assert expected in refused(many(keras).model, base, example_inputs=given)

    def test_values_that_the_model_cannot_take(self, keras: Any, base: Path) -> None:
        """Where the source itself fails, the inputs are named and nothing else is blamed."""
        from tests.exporter.zoo import many

        given = {"left": rows(3), "right": np.full((5, 2), 10_000, np.int32)}
        assert "fails on the example inputs (left float32" in refused(many(keras).model, base, example_inputs=given)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("source", ["pipe", "/dev/zero", "/dev/null"])
def test_what_never_ends(source: str, tmp_path: Path, base: Path) -> None:
    """A pipe or a device is not opened, since that may take for ever."""
    if source == "pipe":
        os.mkfifo(tmp_path / source)
    assert "is a pipe or a device" in refused(tmp_path / source, base)


def test_an_empty_path(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty text, as of a shell variable that is not set, is not the working directory."""
    monkeypatch.chdir(tmp_path)
    assert "the path of the source is empty" in refused("", base)
    with pytest.raises(ExportError, match="the base path is ''; expected the folder of the model's versions"):
        export_model(tmp_path, "")
    with pytest.raises(ExportError, match="the base path is '/'"):
        export_model(tmp_path, "/")


class TestFoldersOfOthers:
    """A SavedModel folder with something in it that cannot be published."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Save a module with one function."""
        import tensorflow as tf

        module = tf.Module()
        module.serve = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([None, 2])], autograph=False)
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.serve)
        return tmp_path / "saved"

    def test_keeping_what_is_no_file(self, folder: Path, base: Path) -> None:
        """Only a Keras model can be saved for being kept; a loaded SavedModel has no `save`."""
        import tensorflow as tf

        live = tf.saved_model.load(str(folder))
        assert "has no file form that could be kept" in refused(live, base, keep_source=True)

    def test_a_base_path_inside_of_it(self, folder: Path) -> None:
        """A version that holds the folder that it is made in would hold itself."""
        assert "lies in the source" in refused(folder, folder / "models")

    def test_a_pipe_in_it(self, folder: Path, base: Path) -> None:
        """Nobody waits for whoever writes to it."""
        os.mkfifo(folder / "pipe")
        assert "file 'pipe' is a pipe or a device" in refused(folder, base)

    def test_a_file_that_cannot_be_read(self, folder: Path, base: Path) -> None:
        """The file is named, and the base path is not blamed."""
        (folder / "lost").symlink_to("nowhere")
        assert "lost cannot be read: No such file or directory" in refused(folder, base)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"names": "keras3"}, "names takes layers, keras2; got 'keras3'"),
        ({"keras": "2.15"}, "keras takes 2, 3; got '2.15'"),
        ({"gate": "Serve"}, "gate takes local, serve; got 'Serve'"),
        ({"allow": ["randomness"]}, "allow takes stateful, random,"),
        ({"ready": [Image]}, "ready takes ready-made signatures"),
        ({"ready": ["imgae"]}, "there is no ready-made signature 'imgae'"),
    ],
)
def test_choices_that_there_are_not(given: dict[str, Any], expected: str, tmp_path: Path, base: Path) -> None:
    """What an argument does not take is refused at once, and does not pass for the default."""
    assert expected in refused(tmp_path / "never_looked_at.h5", base, **given)


def test_bad_names(keras: Any, base: Path) -> None:
    """The rule and the nearest legal name are said."""
    specimen = sequential(keras)
    message = refused(specimen.model, base, output_names=["grüße 1"])
    assert "--output NAME=probabilities renames it, for example to 'gru_e_1'" in message
    assert "has no input 'imge'" in refused(specimen.model, base, input_names={"x": "imge"})
    assert "__saved_model_init_op" in refused(specimen.model, base, signature="__saved_model_init_op")


@pytest.mark.parametrize("version", [0, -1, 1 << 63])
def test_numbers_that_are_no_versions(version: int, keras: Any, base: Path) -> None:
    """A version is a positive int64."""
    assert "from 1 to 2^63 - 1" in refused(sequential(keras).model, base, version=version)


def test_bad_descriptions(keras: Any, base: Path) -> None:
    """What the user says of the model must fit into metadata.json."""
    message = refused(sequential(keras).model, base, metadata={"training": "adam"})
    assert "'training' must be an object" in message


def test_base_paths_that_are_none(keras: Any, tmp_path: Path) -> None:
    """A file, or a version folder, cannot hold versions."""
    model = sequential(keras).model
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="is a file; expected the model's base path"):
        export_model(model, tmp_path / "file")
    exported = export_model(model, tmp_path / "m")
    with pytest.raises(ExportError, match="is itself a version; expected the folder above it"):
        export_model(model, exported.path)

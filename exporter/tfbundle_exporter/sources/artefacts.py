"""A model file or folder as it describes itself, and which Keras must load it.

A file from Keras 2 goes to tf_keras and one from Keras 3 to keras. Trying one and then the other would not do: Keras 3
loads some Keras 2 files without complaint and computes something else (hard_sigmoid, input shapes without InputLayer).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import sha256_of

#: The package that loads a source and that its model belongs to; a SavedModel needs no Keras, so it is "tensorflow".
Family = Literal["keras", "tf_keras", "tensorflow"]
Kind = Literal["hdf5", "keras_archive", "keras_folder", "saved_model", "weights_keras2", "weights_v3", "checkpoint"]
#: Who made a SavedModel: Keras 2 model.save, Keras 3 model.export, tf.saved_model.save, TensorFlow 1 or an Estimator.
Flavour = Literal["keras2", "keras_export", "tf2", "tf1"]

#: What the kinds are called in talk to people.
KIND_NAMES: dict[Kind, str] = {
    "hdf5": "HDF5 model",
    "keras_archive": ".keras model",
    "keras_folder": "unzipped .keras model",
    "saved_model": "SavedModel",
    "weights_keras2": "HDF5 weights",
    "weights_v3": ".weights.h5 weights",
    "checkpoint": "TensorFlow checkpoint",
}
#: The suffix under which both Kerases accept a file of that kind; folders and checkpoints have none.
CANONICAL_SUFFIX: dict[Kind, str] = {
    "hdf5": ".h5",
    "keras_archive": ".keras",
    "keras_folder": "",
    "saved_model": "",
    "weights_keras2": ".h5",
    "weights_v3": ".weights.h5",
    "checkpoint": "",
}
_WEIGHTS_ONLY: frozenset[Kind] = frozenset({"weights_keras2", "weights_v3", "checkpoint"})
_FOLDERS: frozenset[Kind] = frozenset({"keras_folder", "saved_model"})
_FLAVOUR_NAMES: dict[Flavour, str] = {
    "keras2": "Keras 2 model.save",
    "keras_export": "Keras model.export",
    "tf2": "tf.saved_model.save",
    "tf1": "TensorFlow 1 or Estimator",
}

#: Major version of the Keras that wrote a file to the package that reads it.
_FAMILY_OF_MAJOR: dict[str, Family] = {"1": "tf_keras", "2": "tf_keras", "3": "keras"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModelFacts:
    """What a SavedModel says of itself.

    Attributes:
        tensorflow_version: The TensorFlow that wrote it; "" where it does not say.
        flavour: Who made it.
        signatures: Names of the signatures of the meta graph that is served, sorted.
        tags: Tags of each meta graph.
        object_nodes: How many objects it was saved with; none in a TensorFlow 1 export.
    """

    tensorflow_version: str
    flavour: Flavour
    signatures: tuple[str, ...]
    tags: tuple[frozenset[str], ...]
    object_nodes: int

    def __str__(self) -> str:
        """Say who made it."""
        return f"{_FLAVOUR_NAMES[self.flavour]}, TensorFlow {self.tensorflow_version or 'unknown'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """Why this one was taken of several in a folder.

    Attributes:
        name: The file or folder, as it is called there.
        reason: The rule that it won by, in a person's words.
        epoch: The epoch in its name; None where there is none.
        metric: Name and value of the metric that it is best by; the name is "" where only the value was recorded.
    """

    name: str
    reason: str
    epoch: int | None = None
    metric: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A model file or folder that has been looked at, and not loaded.

    Attributes:
        path: The file or folder; of a checkpoint the prefix, which is no file itself.
        kind: Its container.
        keras_version: Version of the Keras that wrote it; "" where it is not recorded.
        family: The package that must load it; None where the file cannot tell (late weights, a tf.Module's checkpoint).
        architecture: The layers' configuration, as JSON; None where it holds none.
        training: What the file says of the training: optimizer, loss, metrics.
        size: In bytes, all files together.
        files: What it is made up of, sorted.
        writer: Who wrote it, in a person's words.
        layers: Names of the layers that hold weights, in order, where the file names them.
        weights: Path of each stored value to its shape, as far as looking tells (weights and checkpoints).
        saved_model: What a SavedModel says of itself.
        picked: Why this one, where it was taken from a folder of several.
    """

    path: Path
    kind: Kind
    keras_version: str = ""
    family: Family | None
    architecture: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    size: int
    files: tuple[Path, ...]
    writer: str
    layers: tuple[str, ...] = ()
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    saved_model: SavedModelFacts | None = None
    picked: Picked | None = None

    @property
    def name(self) -> str:
        """What it is called in its folder, also where the path is "." or ".."."""
        return Path(os.path.abspath(self.path)).name  # noqa: PTH100  # resolve() would follow the user's symbolic links

    @property
    def needs_architecture(self) -> bool:
        """Whether it holds weights alone."""
        return self.kind in _WEIGHTS_ONLY

    @property
    def suffix(self) -> str:
        """The suffix that Keras expects of that kind, whatever the file is called; "" for folders and checkpoints."""
        return CANONICAL_SUFFIX[self.kind]

    @property
    def root(self) -> Path:
        """The folder that its files lie in."""
        return self.path if self.kind in _FOLDERS else self.files[0].parent

    @property
    def prefix(self) -> str:
        """A checkpoint's prefix as TensorFlow takes it; where its last part is empty, it ends in a slash."""
        is_nameless = self.kind == "checkpoint" and self.files[0].name.startswith(".data-")
        return f"{self.path}/" if is_nameless else str(self.path)

    def __str__(self) -> str:
        """Say what it is, as a person would."""
        return f"{self.name} ({KIND_NAMES[self.kind]}, {self.writer}, {self.size / 1e6:.1f} MB)"


def hash_artefact(artefact: Artefact) -> str:
    """Give one SHA-256, in hexadecimal, for all that an artefact is made up of.

    A single file has its own, as `sha256sum FILE` prints it. Several have that of the lines "hash  relative path", one
    a file, sorted by path, as `find -type f | sort | xargs sha256sum | sha256sum` prints it.

    Raises:
        OSError: A file cannot be read.
    """
    if artefact.files == (artefact.path,):
        return sha256_of(artefact.path)
    root = artefact.root
    names = sorted((path.relative_to(root).as_posix(), path) for path in artefact.files)
    return hashlib.sha256("".join(f"{sha256_of(path)}  {name}\n" for name, path in names).encode()).hexdigest()


def total_size(files: Iterable[Path]) -> int:
    """Add up the sizes of files in bytes; a link that leads nowhere has none."""
    return sum(path.stat().st_size for path in files if path.is_file())


def family_of(path: Path, keras_version: object) -> Family:
    """Tell which package must load a file written by that version of Keras.

    Raises:
        ExportError: The file records no version, or one that no package here can read.
    """
    family = _FAMILY_OF_MAJOR.get(str(keras_version).partition(".")[0]) if keras_version else None
    if family is not None:
        return family
    recorded = f"records Keras {keras_version}" if keras_version else "does not record which Keras wrote it"
    raise ExportError(
        f"{path} {recorded}; expected a version 1, 2 or 3, since the wrong Keras may load it and compute something else"
    )


def parse_json(path: Path, what: str, text: str | bytes) -> dict[str, Any]:
    """Read a JSON object that a model file holds.

    Raises:
        ExportError: It is none; the message names the file and the part.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is damaged: its {what} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ExportError(f"{path} is damaged: its {what} is a JSON {type(content).__name__}, expected an object")
    return content

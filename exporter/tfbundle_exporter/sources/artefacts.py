"""A model file as it describes itself, and which Keras must load it.

A file from Keras 2 goes to tf_keras and one from Keras 3 to keras. Trying one and then the other would not do: Keras 3
loads some Keras 2 files without complaint and computes something else (hard_sigmoid, input shapes without InputLayer).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfbundle_serving.apis.errors import ExportError

#: The package that loads a source and that its model belongs to.
Family = Literal["keras", "tf_keras", "tensorflow"]
Kind = Literal["hdf5", "keras_archive"]

#: What the kinds are called in talk to people.
KIND_NAMES: dict[Kind, str] = {"hdf5": "HDF5 model", "keras_archive": ".keras model"}
#: The suffix under which both Kerases accept a file of that kind.
CANONICAL_SUFFIX: dict[Kind, str] = {"hdf5": ".h5", "keras_archive": ".keras"}

#: Major version of the Keras that wrote a file to the package that reads it.
_FAMILY_OF_MAJOR: dict[str, Family] = {"1": "tf_keras", "2": "tf_keras", "3": "keras"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A model file that has been looked at, and not loaded.

    Attributes:
        path: The file.
        kind: Its container.
        keras_version: Version of the Keras that wrote it.
        family: The package that must load it.
        architecture: The layers' configuration, as JSON.
        training: What the file says of the training: optimizer, loss, metrics.
        size: In bytes.
    """

    path: Path
    kind: Kind
    keras_version: str
    family: Family
    architecture: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    size: int

    def __str__(self) -> str:
        """Say what it is, as a person would."""
        return f"{self.path.name} ({KIND_NAMES[self.kind]}, Keras {self.keras_version}, {self.size / 1e6:.1f} MB)"


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

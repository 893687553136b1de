"""What a model file is: told by its first bytes and by what it records of itself, never by its name.

Two kinds are taken:

    full model .h5 / .hdf5    HDF5, attributes model_config and keras_version at the root
    .keras                    zip with metadata.json (keras_version), config.json, model.weights.h5
"""

from __future__ import annotations

import os
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError

from .artefacts import Artefact
from .hdf5_artefact import read_hdf5
from .keras_archive import read_archive

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"


def identify(path: str | os.PathLike[str]) -> Artefact:
    """Find out what a model file is; nothing of it is executed.

    Raises:
        ExportError: It is missing, damaged, or not a full Keras model; the message names it and says what it is.
        OSError: It cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise ExportError(_describe_folder(path))
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except (FileNotFoundError, NotADirectoryError):
        raise ExportError(f"{path}: there is no such file; expected an .h5, .hdf5 or .keras model") from None
    if head.startswith(HDF5_MAGIC):
        return read_hdf5(path)
    if head.startswith(ZIP_MAGIC):
        return read_archive(path)
    found = f"it begins with {head!r}" if head else "it is empty"
    raise ExportError(f"{path} is not a Keras model: expected HDF5 (.h5, .hdf5) or a .keras archive, but {found}")


def _describe_folder(path: Path) -> str:
    if (path / "saved_model.pb").exists() or (path / "saved_model.pbtxt").exists():
        return (
            f"{path} is a SavedModel folder, not a model file: expected an .h5, .hdf5 or .keras file, "
            "or the live model it was saved from"
        )
    return f"{path} is a folder: expected an .h5, .hdf5 or .keras model file"

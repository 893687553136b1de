"""What a model file or folder is: told by its first bytes and by what it records of itself, never by its name.

full model .h5 / .hdf5    HDF5, attributes model_config and keras_version at the root
weights .h5               HDF5, attribute layer_names (Keras 2), or groups layers and vars (.weights.h5)
.keras                    zip with metadata.json (keras_version), config.json, model.weights.h5; or those in a folder
SavedModel                folder with saved_model.pb or .pbtxt
checkpoint                PREFIX.index and PREFIX.data-00000-of-00001, or a folder with a file "checkpoint"
a training's folder       several of those, of which one is picked
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError

from . import checkpoint_artefact
from .artefacts import Artefact
from .checkpoint_folder import choose
from .foreign_files import HEAD_BYTES, describe_foreign
from .hdf5_artefact import HDF5_MAGIC as HDF5_MAGIC
from .hdf5_artefact import read_hdf5
from .keras_archive import ZIP_MAGIC as ZIP_MAGIC
from .keras_archive import is_unzipped, read_archive, read_unzipped
from .saved_model_artefact import is_saved_model, read_saved_model

logger = logging.getLogger(__name__)

_EXPECTED = "an .h5, .hdf5 or .keras model, a SavedModel folder, or weights (.weights.h5, a checkpoint)"


def identify(path: str | os.PathLike[str], *, pick: str = "") -> Artefact:
    """Find out what a model file or folder is; nothing of it is executed.

    Args:
        path: A file, a folder, or a checkpoint's prefix, index or data file.
        pick: Which one of a folder of several: "latest", "best" ("best:max", "best:min", "best:METRIC") or "epoch=N".

    Raises:
        ExportError: It is missing, damaged, or nothing that is exported; the message names it and says what it is.
    """
    if not os.fspath(path):
        # Path("") is the working directory; what was meant is a variable of a shell that is not set.
        raise ExportError(f"the path of the source is empty; expected {_EXPECTED}")
    path = Path(path)
    try:
        return _identify(path, pick)
    except OSError as error:
        raise ExportError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def _identify(path: Path, pick: str) -> Artefact:
    artefact = _identify_one(path)
    if artefact is None:
        chosen, picked = choose(path, pick)
        found = _identify_one(chosen)
        if found is None:  # a prefix with an empty last part is its folder
            found = checkpoint_artefact.read_checkpoint(chosen)
        logger.info("took %s of %s: %s", picked.name, path, picked.reason)
        return replace(found, picked=picked)
    if pick:
        raise ExportError(
            f"{path} is one model, {artefact}; --pick {pick} (pick=) chooses from a folder of several: leave it out"
        )
    return artefact


def _identify_one(path: Path) -> Artefact | None:
    """Identify what is one model; None for a folder that holds several or none."""
    if path.is_dir():
        return _identify_folder(path)
    prefix = checkpoint_artefact.find_prefix(path)
    if prefix is not None:
        return checkpoint_artefact.read_checkpoint(prefix)
    if path.exists() and not path.is_file():
        # To open a pipe is to wait for somebody who writes to it, and a device may never end.
        raise ExportError(f"{path} is a pipe or a device; expected {_EXPECTED}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ExportError(f"{path}: there is no such file; expected {_EXPECTED}") from None
    if head.startswith(HDF5_MAGIC):
        return read_hdf5(path)
    if head.startswith(ZIP_MAGIC):
        return read_archive(path)
    if path.name == checkpoint_artefact.STATE and b"model_checkpoint_path" in head:
        return checkpoint_artefact.read_checkpoint(checkpoint_artefact.read_state(path.parent))
    if checkpoint_artefact.is_table(path):
        raise ExportError(checkpoint_artefact.explain_table(path))
    what = describe_foreign(head) or (f"begins with {head[:16]!r}" if head else "is empty")
    raise ExportError(f"{path} is not a Keras model: expected HDF5 or a .keras archive, but it {what}")


def _identify_folder(path: Path) -> Artefact | None:
    if is_saved_model(path):
        return read_saved_model(path)
    if is_unzipped(path):
        return read_unzipped(path)
    if path.name == "variables" and is_saved_model(path.parent):
        raise ExportError(f"{path} holds the values of a SavedModel; give the folder above it: {path.parent}")
    return None

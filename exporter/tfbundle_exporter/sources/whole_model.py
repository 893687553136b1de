"""A full model file, architecture and weights in one, becomes a live model."""

from __future__ import annotations

import json
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError, ExportError
from tfbundle_serving.apis.file_check import files_below

from ..reasons import reason_of
from ..settings import SourceSettings
from .artefacts import CANONICAL_SUFFIX, Artefact
from .configuration import has_functions, with_plain_functions
from .custom_objects import custom_objects, explain_unknown
from .families import FAMILY_OF_OPTION, IMPORTERS, SPOKEN
from .keras_errors import unknown_name
from .recurrent_stand_ins import cudnn_layers, stand_ins

logger = logging.getLogger(__name__)


def load_whole(artefact: Artefact, reading: SourceSettings) -> Any:
    """Load a full model file: .h5 or .keras, zipped or not.

    Args:
        artefact: The file; it was scanned before.
        reading: The custom objects, and whether code in it may run.

    Raises:
        ExportError: Keras cannot load it; the message names the file and gives Keras's reason in a line.
    """
    family = artefact.family
    if family not in IMPORTERS:
        raise ExportError(f"{artefact} is no model of either Keras")
    if FAMILY_OF_OPTION.get(reading.keras) not in (None, family):
        raise ExportError(
            f"{artefact} needs {SPOKEN[family]}; --keras {reading.keras} would load it and may compute something else"
        )
    keras = IMPORTERS[family]()
    known = custom_objects(reading, family, architecture=artefact.architecture)
    if family == "keras" and artefact.kind == "hdf5":
        known = _operations(keras) | known
    if family == "tf_keras":
        known = stand_ins(keras, artefact.architecture) | known
    if plain := cudnn_layers(artefact.architecture):
        logger.info("taking the cuDNN layers %s as plain LSTM and GRU, which compute the same", ", ".join(plain))
    with _under_canonical_name(artefact) as path:
        try:
            # compile=False: the training's configuration fails to load in ways of its own and serving has no use of it.
            return keras.models.load_model(
                path, custom_objects=known, compile=False, safe_mode=not reading.allow_unsafe
            )
        except BundleError:
            raise
        except Exception as error:
            raise ExportError(_explain(artefact, f"{family} {keras.__version__}", error)) from error


@contextmanager
def _under_canonical_name(artefact: Artefact) -> Iterator[Path]:
    """Give the file a name that Keras chooses the right reader by; a folder is packed, which tf_keras needs."""
    with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder:
        if artefact.kind == "keras_folder":
            path = Path(folder, "model.keras")
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for file in files_below(artefact.path):
                    archive.write(file, file.relative_to(artefact.path))
        elif artefact.family == "tf_keras" and artefact.kind == "hdf5" and has_functions(artefact.architecture):
            path = Path(folder, "model.h5")
            _rewrite_functions(artefact, path)
        else:
            path = Path(folder, f"model{CANONICAL_SUFFIX[artefact.kind]}")
            path.symlink_to(artefact.path.resolve())
        yield path


def _rewrite_functions(artefact: Artefact, path: Path) -> None:
    """Copy an .h5 and name the functions in its configuration as tf_keras reads them from there."""
    import h5py

    assert artefact.architecture is not None
    with h5py.File(artefact.path, "r") as old, h5py.File(path, "w") as new:
        for name in ("keras_version", "backend"):
            if name in old.attrs:
                new.attrs[name] = old.attrs[name]
        new.attrs["model_config"] = json.dumps(with_plain_functions(artefact.architecture))
        old.copy("model_weights", new)


def _operations(keras: Any) -> dict[str, Any]:
    """Name the operations of Keras 3 that its own .h5 files mention and its .h5 reader does not find.

    A Masking layer before an LSTM is enough to leave a NotEqual and an Any in the file. Operations that share their
    name with a layer (Add, Multiply) stay out: there the file does not say which one it means.
    """
    found: dict[str, Any] = {}
    waiting = [keras.Operation]
    while waiting:
        operation = waiting.pop()
        waiting += operation.__subclasses__()
        if operation.__module__.startswith("keras.src.ops.") and not hasattr(keras.layers, operation.__name__):
            found[operation.__name__] = operation
    return found


def _explain(artefact: Artefact, loader: str, error: Exception) -> str:
    name = unknown_name(error)
    if name:
        return explain_unknown(name, artefact.architecture, str(artefact.path))
    text = reason_of(error)
    return f"{artefact.path} ({artefact}) could not be loaded by {loader}: {type(error).__name__}: {text}"

"""A model file becomes a live model, with the Keras that it needs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError, ExportError

from ..runtime import import_keras, import_tf_keras
from .artefacts import CANONICAL_SUFFIX, Artefact, Family

_KERAS: dict[Family, Callable[[], Any]] = {"keras": import_keras, "tf_keras": import_tf_keras}

#: How both Kerases say that they do not know a class or function.
_UNKNOWN_OBJECT = re.compile(
    r"(?:Unknown (?:layer|\w+ ?function|object|\w+)|Could not locate (?:class|function)):? '([^']+)'", re.IGNORECASE
)


def load_model(
    artefact: Artefact, *, custom_objects: Mapping[str, Any] | None = None, allow_unsafe: bool = False
) -> Any:
    """Load a model file for inference: what it says of the training is not restored.

    Args:
        artefact: The file; it was scanned before.
        custom_objects: Name to class or function, for layers of the user's own.
        allow_unsafe: Let Keras run the code that the file holds.

    Raises:
        ExportError: Keras cannot load it; the message names the file and gives Keras's reason in a line.
    """
    keras = _KERAS[artefact.family]()
    known = dict(custom_objects or {})
    if artefact.family == "keras" and artefact.kind == "hdf5":
        known = _operations(keras) | known
    with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder:
        # Both Kerases choose their reader by the suffix, and the file may have another.
        link = Path(folder, f"model{CANONICAL_SUFFIX[artefact.kind]}")
        link.symlink_to(artefact.path.resolve())
        try:
            # compile=False: the training's configuration fails to load in ways of its own and serving has no use of it.
            return keras.models.load_model(link, custom_objects=known, compile=False, safe_mode=not allow_unsafe)
        except BundleError:
            raise
        except Exception as error:
            raise ExportError(_explain(artefact, f"{artefact.family} {keras.__version__}", error)) from error


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
    text = " ".join(str(error).split())
    unknown = _UNKNOWN_OBJECT.search(text)
    if unknown:
        return (
            f"{artefact.path} uses {unknown[1]!r}, which Keras does not know: "
            f"pass custom_objects={{{unknown[1]!r}: ...}} with its class or function"
        )
    return f"{artefact.path} ({artefact}) could not be loaded by {loader}: {type(error).__name__}: {text:.300}"

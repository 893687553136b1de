"""A staged version as TensorFlow's own loader sees it, which is as a server does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import GateError

from ..runtime import import_tensorflow


def one_line(error: Exception) -> str:
    """Give an error of TensorFlow's, which may fill a screen, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.400}"


class StagedVersion:
    """A staged version folder, loaded.

    Args:
        folder: The folder.

    Raises:
        GateError: It cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        tf = import_tensorflow()
        self._folder = folder
        try:
            self._loaded = tf.saved_model.load(str(folder))
        except Exception as error:  # a damaged folder fails in the checkpoint reader, in protobuf, or anywhere between
            raise GateError(f"the staged SavedModel cannot be loaded: {one_line(error)}") from error

    def fresh(self) -> StagedVersion:
        """Load it once more, all of its state as at the beginning."""
        return StagedVersion(self._folder)

    def call(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Call a signature as a server does: by keyword, with tensors of the signature's own dtypes.

        Raises:
            GateError: There is no such signature, or it fails.
        """
        tf = import_tensorflow()
        signatures = self._loaded.signatures
        if signature not in signatures:
            raise GateError(f"the staged version has no signature {signature!r}; it has {', '.join(signatures)}")
        try:
            tensors = {name: tf.constant(array) for name, array in inputs.items()}
            return {name: np.asarray(tensor.numpy()) for name, tensor in signatures[signature](**tensors).items()}
        except (tf.errors.OpError, TypeError, ValueError, KeyError) as error:
            shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in inputs.items())
            raise GateError(f"signature {signature!r} fails on {shapes}: {one_line(error)}") from error


def is_registered_op(name: str) -> bool:
    """Tell whether this TensorFlow, which has loaded nothing of the user's, knows an op."""
    import_tensorflow()
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name) is not None

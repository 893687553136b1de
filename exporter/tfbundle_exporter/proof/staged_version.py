"""A staged version as a server sees it: a graph in a session, restored by the ops that the folder names for it.

tf.saved_model.load would not do. It puts variables right by walking the saved objects, which no server does: a folder
whose signatures read other variables than its restore op fills (tf.saved_model.save of a Keras 3 model makes such)
works in Python and fails at the first request to a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import GateError
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE

from ..reasons import reason_of
from ..runtime import import_tensorflow

#: The tag that tensorflow_model_server asks for.
_TAGS = ("serve",)


def one_line(error: Exception) -> str:
    """Give an error of TensorFlow's, which may fill a screen, in one line."""
    return f"{type(error).__name__}: {reason_of(error, length=400)}"


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
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, _TAGS, str(folder))
        except Exception as error:  # a damaged folder fails in the checkpoint reader, in protobuf, or anywhere between
            self._session.close()
            raise GateError(f"the staged SavedModel cannot be loaded: {one_line(error)}") from error
        definitions = loaded.signature_def
        self._signatures = {name: definitions[name] for name in sorted(definitions) if name != INIT_OP_SIGNATURE}

    def fresh(self) -> StagedVersion:
        """Load it once more, all of its state as at the beginning."""
        return StagedVersion(self._folder)

    def call(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Call a signature as a server does: feeds and fetches by the names of the signature's tensors.

        Raises:
            GateError: There is no such signature, or it fails.
        """
        tf = import_tensorflow()
        if signature not in self._signatures:
            raise GateError(f"the staged version has no signature {signature!r}; it has {', '.join(self._signatures)}")
        definition = self._signatures[signature]
        try:
            feeds = {definition.inputs[name].name: array for name, array in inputs.items() if name in definition.inputs}
            if len(feeds) < len(inputs):
                raise KeyError(f"its inputs are {', '.join(sorted(definition.inputs))}")
            fetches = {name: info.name for name, info in definition.outputs.items()}
            return {name: np.asarray(value) for name, value in self._session.run(fetches, feeds).items()}
        except (tf.errors.OpError, TypeError, ValueError, KeyError) as error:
            shapes = ", ".join(f"{name} {np.shape(array)}" for name, array in inputs.items())
            raise GateError(f"signature {signature!r} fails on {shapes}: {one_line(error)}") from error


def is_registered_op(name: str) -> bool:
    """Tell whether this TensorFlow, which has loaded nothing of the user's, knows an op."""
    import_tensorflow()
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name) is not None

"""A model becomes a SavedModel with named inputs and outputs, through a tf.Module of our own.

Keras's `model.export` names outputs output_0, writes each signature twice and gives other bytes in every process.
This writes one graph a signature, holds the variables and tables and nothing else, and is the same for both Kerases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from .keras_model import KerasModel
from .runtime import import_tensorflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One signature of the model under the names that clients use.

    Attributes:
        signature: Its name.
        inputs: Public input name to dtype and shape, in the model's order.
        outputs: Public output names, in the model's order.
        model: The model behind it.
    """

    signature: str
    inputs: Mapping[str, TensorSpec]
    outputs: Sequence[str]
    model: KerasModel

    def call(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Answer tensors with tensors, eagerly or while being traced."""
        tf = import_tensorflow()
        results = self.model.call([tensors[name] for name in self.inputs])
        for result in results:
            if not isinstance(result, tf.Tensor):
                raise ExportError(
                    f"model {self.model.name!r} returns a {type(result).__name__}; only dense tensors can be served"
                )
        # identity: an input returned as it came, or one tensor under two names, is an output of its own.
        return {name: tf.identity(result, name=name) for name, result in zip(self.outputs, results, strict=True)}

    def predict(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Answer arrays with arrays, eagerly: this is the source model's own word.

        Raises:
            ExportError: The model fails on them.
        """
        tf = import_tensorflow()
        tensors = {
            name: tf.constant(arrays[name], tf.as_dtype(spec.dtype.number)) for name, spec in self.inputs.items()
        }
        try:
            results = self.call(tensors)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
            reason = " ".join(str(error).split())
            raise ExportError(
                f"model {self.model.name!r} fails on the example inputs ({shapes}): {reason:.300}; "
                "give inputs that it takes: --examples FILE (example_inputs=)"
            ) from error
        return {name: np.asarray(result.numpy()) for name, result in results.items()}


def write_saved_model(folder: Path, endpoints: Sequence[Endpoint]) -> None:
    """Write a SavedModel.

    Args:
        folder: Where; it is made.
        endpoints: Its signatures, of one model.

    Raises:
        ExportError: TensorFlow cannot trace or write it.
    """
    tf = import_tensorflow()
    model = endpoints[0].model
    module = tf.Module()
    module.model_variables = list(model.variables)
    module.model_resources = list(model.resources)
    try:
        functions = {endpoint.signature: _trace(tf, endpoint) for endpoint in endpoints}
        tf.saved_model.save(module, str(folder), signatures=functions)
    except (tf.errors.OpError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ExportError(
            f"TensorFlow cannot write model {model.name!r}: {type(error).__name__}: {reason:.400}"
        ) from error


def _trace(tf: Any, endpoint: Endpoint) -> Any:
    specs = [
        tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype.number), name=name) for name, spec in endpoint.inputs.items()
    ]

    # By position, named by the specs: as keywords, names with a hyphen or a dot would be rewritten.
    def serve(*tensors: Any) -> dict[str, Any]:
        return endpoint.call(dict(zip(endpoint.inputs, tensors, strict=True)))

    return tf.function(serve, autograph=False).get_concrete_function(*specs)

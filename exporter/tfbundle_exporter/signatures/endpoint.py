"""One signature in the making: names and specs for clients, and a function over tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import PREDICT_METHOD, TensorSpec

from ..models.source_model import SourceCall
from ..reasons import reason_of
from ..runtime import import_tensorflow

Arrays = Mapping[str, NDArray[Any]]
#: Public input name to tensor -> public output name to tensor; eager or while being traced.
TensorFunction = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One signature under the names that clients use.

    Attributes:
        signature: Its name.
        inputs: Public input name to dtype and shape, in the model's order.
        outputs: Public output names, in the model's order.
        function: What it computes.
        method_name: The API it is made for.
        resources: Trackables that only this signature needs, such as a table of labels.
        examples: Turns the reference inputs of the signature that it was built around into its own; None where it was
            built around none, and has inputs drawn from its specs.
        around: Name of the signature that it was built around; "" for a plain one.
    """

    signature: str
    inputs: Mapping[str, TensorSpec]
    outputs: tuple[str, ...]
    function: TensorFunction
    method_name: str = PREDICT_METHOD
    resources: tuple[Any, ...] = ()
    examples: Callable[[Arrays], dict[str, NDArray[Any]]] | None = None
    around: str = ""

    def call(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Answer tensors with tensors, eagerly or while being traced.

        Raises:
            ExportError: An output is no dense tensor, or is missing.
        """
        tf = import_tensorflow()
        results = self.function(tensors)
        for name in self.outputs:
            if not isinstance(results.get(name), tf.Tensor):
                raise ExportError(
                    f"signature {self.signature!r}: output {name!r} is a {type(results.get(name)).__name__}; "
                    "only dense tensors can be served"
                )
        # identity: an input returned as it came, or one tensor under two names, is an output of its own.
        return {name: tf.identity(results[name], name=name) for name in self.outputs}

    def predict(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
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
            raise ExportError(
                f"signature {self.signature!r}: the source model fails on the example inputs ({shapes}): "
                f"{reason_of(error)}; give inputs that it takes: --examples FILE (example_inputs=)"
            ) from error
        return {name: np.asarray(result.numpy()) for name, result in results.items()}


def plain_endpoint(
    signature: str,
    source: SourceCall,
    *,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    cast_outputs: bool = False,
) -> Endpoint:
    """Give a source's own call the names that clients use.

    Args:
        signature: The signature's name.
        source: The call.
        inputs: Public input names, in the source's order.
        outputs: Public output names, in the source's order.
        cast_outputs: Answer in float32 where the source answers in float16 or bfloat16, as mixed precision does.
    """

    def function(tensors: Mapping[str, Any]) -> dict[str, Any]:
        results = source.call([tensors[name] for name in inputs])
        return dict(zip(outputs, map(_widen, results) if cast_outputs else results, strict=True))

    specs = dict(zip(inputs, source.inputs.values(), strict=True))
    return Endpoint(
        signature=signature, inputs=specs, outputs=outputs, function=function, method_name=source.method_name
    )


def _widen(tensor: Any) -> Any:
    tf = import_tensorflow()
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor

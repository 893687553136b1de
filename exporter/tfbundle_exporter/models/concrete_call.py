"""A traced function as a SourceCall: of a tf.Module, or restored from a SavedModel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import PREDICT_METHOD, TensorSpec

from ..runtime import import_tensorflow
from ..signatures.names import uniquify
from .source_model import SourceCall
from .structure import Path, flatten, keys_on, leaves, name_outputs


def call_of(
    what: str, function: Any, *, names: Sequence[str], arguments: Any = None, method_name: str = PREDICT_METHOD
) -> SourceCall:
    """See a ConcreteFunction as a call.

    Args:
        what: The function, for messages.
        function: The ConcreteFunction.
        names: What its inputs are called, in the order of its placeholders.
        arguments: As in SourceCall.
        method_name: The API it is made for.

    Raises:
        ExportError: An output is no dense tensor.
    """
    tf = import_tensorflow()
    for _, output in flatten(function.structured_outputs):
        if not isinstance(output, (tf.Tensor, tf.TensorSpec)):
            raise ExportError(f"{what} returns a {type(output).__name__}; only dense tensors can be served")

    def call(tensors: Sequence[Any]) -> list[Any]:
        # Flat: by keyword, an input called "self" could not be passed, and one called "a-b" has become a_b.
        return leaves(function._call_flat(list(tensors), function.captured_inputs))

    # Placeholders come first; the rest are captured variables and tables.
    placeholders = function.inputs[: len(names)]
    return SourceCall(
        inputs={name: _spec(tensor) for name, tensor in zip(names, placeholders, strict=True)},
        output_names=name_outputs(function.structured_outputs),
        call=call,
        method_name=method_name,
        arguments=arguments,
    )


def _spec(tensor: Any) -> TensorSpec:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return TensorSpec(dtypes.by_number(tensor.dtype.as_datatype_enum), shape)


def name_inputs(what: str, function: Any, told: Any = None) -> tuple[str, ...]:
    """Name the inputs of a function by its specs' own names, by the keys of the one dict it takes, or its parameters.

    Args:
        what: The function, for messages.
        function: The ConcreteFunction.
        told: Its input_signature, where there is one: names in it were chosen by the user.

    Raises:
        ExportError: An input is sparse or ragged.
    """
    tf = import_tensorflow()
    args, named = function.structured_input_signature
    chosen = [getattr(spec, "name", None) for spec in leaves(told)] if told is not None else []
    names: list[str] = []
    for path, spec in flatten([args, named]):
        if not isinstance(spec, tf.TensorSpec):
            if isinstance(spec, tf.TypeSpec):
                raise ExportError(f"{what} takes a {type(spec).__name__}; only dense tensors can be served")
            continue  # a value such as training=False, which the trace has fixed
        place = len(names)
        own = chosen[place] if place < len(chosen) else None
        names.append(own or _name(path, spec, alone=len(args) + len(named) == 1) or f"input_{place}")
    return uniquify(names)


def _name(path: Path, spec: Any, *, alone: bool) -> str:
    # Beyond the place among the arguments, and the argument itself.
    return (keys_on(path[2:]) if alone else "") or str(spec.name or "")

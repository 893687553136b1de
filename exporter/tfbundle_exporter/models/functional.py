"""A model that is a graph of layers: Sequential or functional, of either Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfbundle_serving.apis.signatures import TensorSpec

from .batch_size import find_fixed_batch, with_batch
from .call_arguments import sequential_arguments
from .keras_state import stateful_layers
from .keras_view import KerasView
from .source_model import SourceCall
from .structure import leaves, name_outputs, pack


def functional_call(view: KerasView, examples: Any) -> SourceCall:
    """Call a graph of layers under its layers' names."""
    inputs = _with_dtype_of(view, examples) if view.guesses_dtype and examples is not None else view.inputs

    def call(tensors: Sequence[Any]) -> list[Any]:
        return leaves(view.call(pack(view.input_form, tensors)))

    outputs = name_outputs(view.output, view.layer_of)
    return SourceCall(
        inputs=with_batch(inputs, _fixed_batch(view, call)),
        output_names=outputs,
        call=call,
        arguments=pack(view.input_form, tuple(view.inputs)),
        results=pack(view.output, outputs),
    )


def _with_dtype_of(view: KerasView, examples: Any) -> dict[str, TensorSpec]:
    ((layer, spec),) = view.inputs.items()
    told = next(iter(sequential_arguments(view.what, examples, floats=view.floats)[0].inputs.values()))
    return {layer: TensorSpec(told.dtype, spec.shape)}


def _fixed_batch(view: KerasView, call: Any) -> int | None:
    declared = next(iter(view.inputs.values()), TensorSpec(view.floats, (None,))).shape
    if stateful_layers(view.model) and declared and declared[0] is not None:
        return declared[0]
    rows = [output.shape[0] if len(output.shape) else None for output in leaves(view.output)]
    return find_fixed_batch(view.what, call, view.inputs, outputs=rows)

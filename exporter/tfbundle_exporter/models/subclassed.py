"""A Keras model that is code of the user's own: what it takes is learnt from example inputs, or from its first call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..reasons import reason_of
from .batch_size import one_size, trace, with_batch
from .call_arguments import Arguments, example_tensors, match_examples, of_examples, sequential_arguments
from .keras_view import KerasView
from .source_model import SourceCall
from .structure import leaves, name_outputs, pack

logger = logging.getLogger(__name__)


def build_by_call(view: KerasView, examples: Any) -> None:
    """Call a model that never was called once on example inputs, which makes its weights.

    Args:
        view: The model.
        examples: An array; name to array; or arrays in order.

    Raises:
        ExportError: There are no example inputs, or the model fails on them.
    """
    if examples is None:
        raise ExportError(
            f"{view.what} was never called, so that nobody knows what it takes: "
            "give example inputs to call it on: --examples FILE (example_inputs=)"
        )
    arguments, matched = _from_examples(view, examples)
    args, named = arguments.bind(example_tensors(arguments, matched))
    try:
        view.call(*args, **named)
    except Exception as error:  # whatever the user's code raises
        described = ", ".join(f"{name} {spec}" for name, spec in arguments.inputs.items())
        raise ExportError(
            f"{view.what} fails on the example inputs ({described}): {type(error).__name__}: {reason_of(error)}"
        ) from error
    logger.info("built %s by one call on the example inputs", view.what)


def subclassed_call(view: KerasView, examples: Any) -> SourceCall:
    """Call a model that is code.

    Its inputs go by the parameters of its `call`, or by the keys of the dict that it takes; its outputs by the keys of
    the dict that it returns, or output_0, output_1, as TensorFlow itself calls them.

    Raises:
        ExportError: What it takes is not known, or it cannot be traced.
    """
    arguments = _from_examples(view, examples)[0] if examples is not None else _recorded(view)

    def invoke(tensors: Sequence[Any]) -> Any:
        args, named = arguments.bind(tensors)
        return view.call(*args, **named)

    inputs = arguments.inputs
    traced = trace(view.what, invoke, inputs)
    rows = [getattr(output, "shape", None) for output in leaves(traced.structured_outputs)]
    fixed = one_size(shape[0] if shape is not None and shape.rank else None for shape in rows)
    outputs = name_outputs(traced.structured_outputs)
    return SourceCall(
        inputs=with_batch(inputs, fixed),
        output_names=outputs,
        call=_flat(invoke),
        arguments=arguments.named,
        results=pack(traced.structured_outputs, outputs),
    )


def _flat(invoke: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    return lambda tensors: leaves(invoke(tensors))


def _from_examples(view: KerasView, examples: Any) -> tuple[Arguments, dict[str, Any]]:
    if view.is_sequential:
        return sequential_arguments(view.what, examples, floats=view.floats)
    matched = match_examples(view.what, view.model.call, examples)
    return of_examples(view.what, matched, floats=view.floats), matched


def _recorded(view: KerasView) -> Arguments:
    if view.recorded is None:
        raise ExportError(
            f"{view.what} does not say what its inputs are: give example inputs: --examples FILE (example_inputs=)"
        )
    if view.family == "keras":
        described = ", ".join(f"{name} {spec}" for name, spec in view.recorded.inputs.items())
        logger.info(
            "Keras 3 keeps the shapes of the first call and not its dtypes: taking %s; example inputs would say more: "
            "--examples FILE (example_inputs=)",
            described,
        )
    return view.recorded

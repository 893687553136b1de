"""Whether a model takes batches of any size, or of one only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..reasons import reason_of
from ..runtime import import_tensorflow

Call = Callable[[Sequence[Any]], list[Any]]


def with_batch(inputs: Mapping[str, TensorSpec], batch: int | None) -> dict[str, TensorSpec]:
    """Give every input the same batch dimension."""
    return {name: TensorSpec(spec.dtype, (batch, *(spec.shape or ())[1:])) for name, spec in inputs.items()}


def trace(what: str, call: Callable[[Sequence[Any]], Any], inputs: Mapping[str, TensorSpec]) -> Any:
    """Trace a call.

    Returns:
        The ConcreteFunction; its structured outputs are what the call returns.

    Raises:
        ExportError: It cannot be traced; the message gives the reason.
    """
    tf = import_tensorflow()
    specs = [tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype.number)) for spec in inputs.values()]
    try:
        return tf.function(lambda *tensors: call(tensors), autograph=False).get_concrete_function(*specs)
    except ExportError:
        raise
    except Exception as error:  # whatever the user's code raises
        described = ", ".join(f"{name} {spec}" for name, spec in inputs.items())
        raise ExportError(
            f"{what} cannot be called on {described}: {type(error).__name__}: {reason_of(error)}; "
            "example inputs of the right form help: --examples FILE (example_inputs=)"
        ) from error


def find_fixed_batch(
    what: str, call: Call, inputs: Mapping[str, TensorSpec], *, outputs: Iterable[int | None]
) -> int | None:
    """Find the only batch size that a graph of layers takes.

    An Input of one batch size does not say much: most layers take any all the same. What counts is whether the graph,
    given any number of rows, still answers with one number of rows.

    Args:
        what: The model, for messages.
        call: Calls it.
        inputs: Its inputs as they were declared.
        outputs: Rows of each symbolic output.

    Returns:
        That size; None where it takes any.
    """
    sizes = {spec.shape[0] for spec in inputs.values() if spec.shape}
    declared = next(iter(sizes)) if len(sizes) == 1 else None
    if declared is None:
        return one_size(outputs)
    try:
        traced = trace(what, call, with_batch(inputs, None))
    except ExportError:
        return declared
    return one_size(output.shape[0] if output.shape.rank else None for output in traced.structured_outputs)


def one_size(rows: Iterable[int | None]) -> int | None:
    """Give the one number of rows, if every output has that same one; a single row may be a summary of the batch."""
    sizes = set(rows)
    size = next(iter(sizes)) if len(sizes) == 1 else None
    return size if size is not None and size > 1 else None

"""A call that takes one row, made to take any number: it is called row by row, in the graph.

A subclassed Keras 3 model that was called once on a row of dummies, and then saved by tf.saved_model.save, is bound to
one row for ever; so are many old exports for prediction. A server's callers send as many rows as they have.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_tensorflow
from .source_model import SourceCall, SourceModel

logger = logging.getLogger(__name__)


def takes_one_row(call: SourceCall) -> bool:
    """Tell whether each input of a call has exactly one row."""
    return bool(call.inputs) and all(spec.shape is not None and spec.shape[:1] == (1,) for spec in call.inputs.values())


def free_rows(model: SourceModel) -> SourceModel:
    """Let every call that takes one row take any number; others stay as they are.

    Args:
        model: The source; one that keeps state between calls stays as it is.
    """
    if model.stateful:
        return model
    return replace(
        model,
        main=_free(model.main, "the main signature"),
        others={name: _free(call, f"signature {name!r}") for name, call in model.others.items()},
    )


def _free(call: SourceCall, what: str) -> SourceCall:
    tf = import_tensorflow()
    if not takes_one_row(call):
        return call
    specs = [tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype.number)) for spec in call.inputs.values()]
    traced = tf.function(lambda *tensors: call.call(list(tensors)), autograph=False).get_concrete_function(*specs)
    if any(output.shape.rank is None or output.shape[:1] != [1] for output in traced.outputs):
        return call  # an answer that has no row of its own cannot be stacked
    outputs = [tf.TensorSpec(output.shape[1:], output.dtype) for output in traced.outputs]
    logger.info("%s takes one row at a time; it is wrapped to take any number, row by row", what)

    def one(row: Any) -> Any:
        return tuple(answer[0] for answer in call.call([tensor[tf.newaxis] for tensor in row]))

    def many(tensors: Sequence[Any]) -> list[Any]:
        return list(tf.map_fn(one, tuple(tensors), fn_output_signature=tuple(outputs)))

    inputs = {name: _without_rows(spec) for name, spec in call.inputs.items()}
    return replace(call, inputs=inputs, call=many)


def _without_rows(spec: TensorSpec) -> TensorSpec:
    assert spec.shape is not None
    return replace(spec, shape=(None, *spec.shape[1:]))

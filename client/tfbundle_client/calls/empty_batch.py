"""The answer to no rows, where JSON cannot carry the question.

JSON writes an array of shape (0, 784) as [], which is one of shape (0,), and servers refuse it. What a model answers to
no rows is known where everything it takes and gives has the batch in front: no rows of each output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.signatures import Signature, TensorSpec


def answer_empty(
    inputs: Mapping[str, NDArray[Any]], signature: Signature, wanted: Collection[str]
) -> dict[str, NDArray[Any]] | None:
    """Answer no rows.

    Args:
        inputs: What would be sent.
        signature: What is called.
        wanted: Names of the wanted outputs; empty means all.

    Returns:
        Output name to an array with no rows; None where the question is another, or the answer is not certain.
    """
    if all(0 not in array.shape[:-1] for array in inputs.values()):
        return None
    asked = [(signature.inputs[name], array) for name, array in inputs.items()]
    if not all(_has_batch(spec) and array.shape[0] == 0 for spec, array in asked):
        return None
    outputs = {name: spec for name, spec in signature.outputs.items() if not wanted or name in wanted}
    found = {}
    for name, spec in outputs.items():
        sizes = spec.shape[1:] if spec.shape and _has_batch(spec) else (None,)
        known = tuple(size for size in sizes if size is not None)
        if len(known) != len(sizes):
            return None
        found[name] = np.empty((0, *known), spec.dtype.to_numpy())
    return found


def _has_batch(spec: TensorSpec) -> bool:
    """Whether the first dimension may have any size."""
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] is None

"""tf.Example and back: the features that a signature's inputs are parsed from, and examples that hold given rows.

A feature has the input's public name and holds one row, flattened:

    float32, float64, float16, bfloat16     float_list, so that float64 keeps the precision of float32
    integers, bool                          int64_list
    string                                  bytes_list

Source: tensorflow/core/example/feature.proto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_tensorflow
from .endpoint import Arrays

#: numpy's kind of a dtype to the list of a feature and the dtype it is parsed as; V is bfloat16.
_CARRIERS = {
    "f": ("float_list", "float32"),
    "V": ("float_list", "float32"),
    "i": ("int64_list", "int64"),
    "u": ("int64_list", "int64"),
    "b": ("int64_list", "int64"),
    "O": ("bytes_list", "string"),
}


def check_parseable(signature: str, inputs: Mapping[str, TensorSpec]) -> None:
    """Check that each input can be a feature: a row has a fixed size but for its first axis.

    Raises:
        ExportError: One cannot; the message names it.
    """
    for name, spec in inputs.items():
        if spec.shape is None or not spec.shape or None in spec.shape[2:]:
            raise ExportError(
                f"signature {signature!r}: input {name!r} is {spec}; a feature of tf.Example is a flat list, so only "
                "the first axis after the batch may be of any size"
            )
        if spec.dtype.to_numpy().kind not in _CARRIERS:
            raise ExportError(f"signature {signature!r}: input {name!r} is {spec}; tf.Example cannot hold that dtype")


def parse_examples(serialized: Any, inputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """Parse serialized examples into the inputs of a signature, eagerly or while being traced.

    Rows of one batch must agree in an axis of any size, as they must in a dense tensor; none is padded, since then a
    row's answer could depend on the rows beside it.

    Args:
        serialized: String tensor (n,).
        inputs: Public name to dtype and shape (see `check_parseable`).
    """
    tf = import_tensorflow()
    features = {}
    for name, spec in inputs.items():
        row = (spec.shape or ())[1:]
        carrier = tf.as_dtype(_CARRIERS[spec.dtype.to_numpy().kind][1])
        features[name] = (
            tf.io.RaggedFeature(carrier, row_splits_dtype=tf.int64)
            if None in row
            else tf.io.FixedLenFeature(row, carrier)
        )
    parsed = tf.io.parse_example(serialized, features)
    return {
        name: tf.cast(
            _to_dense(name, parsed[name], spec) if isinstance(parsed[name], tf.RaggedTensor) else parsed[name],
            tf.as_dtype(spec.dtype.number),
        )
        for name, spec in inputs.items()
    }


def _to_dense(name: str, ragged: Any, spec: TensorSpec) -> Any:
    tf = import_tensorflow()
    rest = tuple(size for size in (spec.shape or ())[2:] if size is not None)
    lengths = ragged.row_lengths()
    longest = tf.maximum(tf.reduce_max(lengths), 0)
    tf.debugging.assert_equal(
        lengths, longest, message=f"feature {name}: the examples of one request must have the same length"
    )
    steps = longest // max(1, math.prod(rest))
    shape = tf.concat([tf.stack([tf.size(lengths, tf.int64), steps]), tf.constant(rest, tf.int64)], 0)
    return tf.ensure_shape(tf.reshape(ragged.flat_values, shape), (None, None, *rest))


def encode_examples(arrays: Arrays) -> NDArray[Any]:
    """Write rows as serialized examples.

    Args:
        arrays: Feature name to array, one entry of the first axis a row.

    Returns:
        Array (n,) of bytes, equal for equal rows.
    """
    tf = import_tensorflow()
    rows = len(next(iter(arrays.values())))
    encoded = np.empty(rows, object)
    for place in range(rows):
        example = tf.train.Example()
        for name, array in arrays.items():
            listed, _ = _CARRIERS[array.dtype.kind]
            feature = getattr(example.features.feature[name], listed)
            feature.value.extend(_flat(array[place : place + 1], listed))
        encoded[place] = example.SerializeToString(deterministic=True)
    return encoded


def _flat(row: NDArray[Any], listed: str) -> list[Any]:
    if listed == "bytes_list":
        return [each.encode() if isinstance(each, str) else bytes(each) for each in row.ravel().tolist()]
    wide = row.astype(np.float32 if listed == "float_list" else np.int64)
    flat: list[Any] = wide.ravel().tolist()
    return flat

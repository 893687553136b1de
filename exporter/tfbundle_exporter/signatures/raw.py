"""The `raw` signature: tensors as little-endian bytes, so that REST ships them as base64 and not as decimal digits.

{"instances": [{"image_bytes": {"b64": "<base64 of one row, C order, little-endian>"}}]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec, format_shape

from ..models.source_model import SourceModel
from ..runtime import import_tensorflow
from .choice import join_inputs, rows_of_bytes
from .endpoint import Arrays, Endpoint

#: As TensorFlow Serving's REST API names what is binary. Outputs stay numbers: as bytes they could only be compared bit
#: for bit, and no two machines round alike.
_ENDING = "_bytes"
#: What the op that reads bytes lacks, and what is read in its place, bit for bit.
_STAND_INS = {"uint32": "int32", "uint64": "int64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Take each numeric input NAME as NAME_bytes, one string a row; strings stay as they are.

    Attributes:
        signature: Its name.
        around: The signature it is built around; "" is the main one.
    """

    signature: str = "raw"
    around: str = ""

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: No input is numeric, or one leaves more than one axis of its rows free.
        """
        public = {name: name if spec.dtype.is_string else name + _ENDING for name, spec in main.inputs.items()}
        if not any(name != own for own, name in public.items()):
            raise ExportError(
                f"raw: signature {main.signature!r} has no numeric input; its strings can be sent as they are"
            )
        for name, spec in main.inputs.items():
            if not spec.dtype.is_string and (not spec.shape or spec.shape[1:].count(None) > 1):
                raise ExportError(
                    f"raw: input {name!r} is {spec}; the shape of a row can be told from its bytes only where at most "
                    "one of its axes is of any size"
                )

        def function(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
            return main.call(
                {
                    name: tensors[public[name]] if spec.dtype.is_string else _read(name, spec, tensors[public[name]])
                    for name, spec in main.inputs.items()
                }
            )

        def examples(arrays: Arrays) -> dict[str, NDArray[Any]]:
            return {
                public[name]: array if main.inputs[name].dtype.is_string else encode_rows(array)
                for name, array in arrays.items()
            }

        inputs = (
            (public[name], spec if spec.dtype.is_string else rows_of_bytes(main)) for name, spec in main.inputs.items()
        )
        return Endpoint(
            signature=self.signature,
            inputs=join_inputs(self.signature, inputs),
            outputs=main.outputs,
            function=function,
            examples=examples,
            around=main.signature,
        )


def _read(name: str, spec: TensorSpec, encoded: Any) -> Any:
    tf = import_tensorflow()
    sizes = (spec.shape or ())[1:]
    numpy_name = spec.dtype.numpy_name
    unit = spec.dtype.to_numpy().itemsize * math.prod(size for size in sizes if size is not None)
    lengths = tf.strings.length(encoded)
    row = f"{numpy_name} {format_shape(sizes)}"
    # No quotation marks: the Assert op writes them with backslashes.
    what = f"input {name + _ENDING}: each string must hold one row, {row}, little-endian"
    if None in sizes:
        wanted = f"{what}, a multiple of {unit} bytes, as many in each"
        checks = [
            tf.debugging.assert_equal(lengths % unit, 0, message=wanted),
            tf.debugging.assert_equal(lengths, tf.reduce_max(lengths), message=wanted),
        ]
    else:
        checks = [tf.debugging.assert_equal(lengths, unit, message=f"{what}: {unit} bytes")]
    # First the checks: the op's own complaint names no input.
    with tf.control_dependencies(checks):
        flat = tf.io.decode_raw(encoded, tf.as_dtype(_STAND_INS.get(numpy_name, numpy_name)))
    if numpy_name in _STAND_INS:
        flat = tf.bitcast(flat, tf.as_dtype(numpy_name))
    # The number of rows is said, not left to be found: two half rows must not pass for one.
    free = tf.size(flat) // tf.maximum(tf.size(encoded) * math.prod(size for size in sizes if size is not None), 1)
    shape = tf.stack([tf.size(encoded), *(free if size is None else size for size in sizes)])
    return tf.ensure_shape(tf.reshape(flat, shape), (None, *sizes))


def encode_rows(array: NDArray[Any]) -> NDArray[Any]:
    """Write each row as its little-endian bytes, C order.

    Returns:
        Array (n,) of bytes.
    """
    little = array if array.dtype.kind == "V" else array.astype(array.dtype.newbyteorder("<"))
    rows = np.empty(len(array), object)
    for place in range(len(array)):
        rows[place] = little[place : place + 1].tobytes()
    return rows

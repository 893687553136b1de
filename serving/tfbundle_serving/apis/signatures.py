"""SignatureDef: what a model takes and gives, by name.

Read from saved_model.pb, from a GetModelMetadata reply and from REST metadata JSON; the three say the same thing:

    {"inputs": {"image": {"dtype": "DT_FLOAT", "name": "serving_default_image:0",
                          "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "8", "name": ""}],
                                           "unknown_rank": false}}},
     "outputs": {...}, "method_name": "tensorflow/serving/predict", "defaults": {}}

Source: tensorflow/core/protobuf/meta_graph.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import dtypes
from .dtypes import DType
from .errors import DecodeError
from .tensor_proto_json import tensor_proto_to_json
from .wire import (
    Readable,
    as_int,
    as_text,
    as_view,
    fields,
    length_field,
    read_map_entry,
    string_field,
    varint_field,
    view,
)

#: Every TF2 SavedModel lists this pseudo signature; it cannot be called.
INIT_OP_SIGNATURE = "__saved_model_init_op"

PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

#: A shape; None inside it is a dimension of any size, None in its place an unknown rank.
Shape = tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes:
        dtype: Its dtype.
        shape: Its shape, the batch dimension included.
        tensor_name: Name of the tensor in the graph ("serving_default_image:0").
    """

    dtype: DType
    shape: Shape
    tensor_name: str = ""

    def __str__(self) -> str:
        """Show dtype and shape as a person reads them: float32 (?, 8, 8, 1)."""
        if self.shape is None:
            return f"{self.type_name} of any rank"
        return f"{self.type_name} {format_shape(self.shape)}"

    @property
    def type_name(self) -> str:
        """The dtype under the name a numpy user knows, strings as "string"."""
        return self.dtype.name if self.dtype.is_string or not self.dtype.numpy_name else self.dtype.numpy_name


def format_shape(shape: tuple[int | None, ...]) -> str:
    """Write a shape with ? for a dimension of any size."""
    sizes = ", ".join("?" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


@dataclass(frozen=True, slots=True)
class Signature:
    """A callable of a model.

    Attributes:
        inputs: Alias to spec.
        outputs: Alias to spec.
        method_name: Which API it is meant for.
        defaults: Aliases of inputs that may be left out, with the TensorProto bytes that stand in.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = PREDICT_METHOD
    defaults: Mapping[str, bytes] = field(default_factory=dict)


def encode_signature(signature: Signature) -> bytes:
    """Write a SignatureDef, map entries in the order of their keys."""
    out = b""
    for number, specs in ((1, signature.inputs), (2, signature.outputs)):
        for alias in sorted(specs):
            out += length_field(number, string_field(1, alias) + length_field(2, _encode_tensor_info(specs[alias])))
    out += string_field(3, signature.method_name) if signature.method_name else b""
    for alias in sorted(signature.defaults):
        out += length_field(4, string_field(1, alias) + length_field(2, signature.defaults[alias]))
    return out


def _encode_tensor_info(spec: TensorSpec) -> bytes:
    if spec.shape is None:
        shape = varint_field(3, 1)
    else:
        shape = b"".join(_encode_dim(-1 if size is None else size) for size in spec.shape)
    out = string_field(1, spec.tensor_name) if spec.tensor_name else b""
    return out + varint_field(2, spec.dtype.number) + length_field(3, shape)


def _encode_dim(size: int) -> bytes:
    return length_field(2, varint_field(1, size) if size else b"")


def decode_signature(data: Readable) -> Signature:
    """Read a SignatureDef.

    Raises:
        DecodeError: The bytes are not one.
    """
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    method = ""
    defaults: dict[str, bytes] = {}
    for number, _, value in fields(view(data)):
        if number in (1, 2):
            alias, info = read_map_entry(as_view(value, "signature"), "signature")
            (inputs if number == 1 else outputs)[alias] = _decode_tensor_info(info)
        elif number == 3:
            method = as_text(value, "method_name")
        elif number == 4:
            alias, tensor = read_map_entry(as_view(value, "defaults"), "defaults")
            defaults[alias] = bytes(tensor)
    return Signature(inputs, outputs, method, defaults)


def _decode_tensor_info(data: memoryview) -> TensorSpec:
    name = ""
    number = 0
    shape: Shape = ()
    for field_number, _, value in fields(data):
        if field_number == 1:
            name = as_text(value, "tensor name")
        elif field_number == 2:
            number = as_int(value, "dtype")
        elif field_number == 3:
            shape = _decode_shape(as_view(value, "tensor_shape"))
    return TensorSpec(dtypes.by_number(number), shape, name)


def _decode_shape(data: memoryview) -> Shape:
    sizes: list[int | None] = []
    for number, _, value in fields(data):
        if number == 2:
            size = 0
            for inner, _, content in fields(as_view(value, "dim")):
                if inner == 1:
                    size = as_int(content, "dim.size")
            sizes.append(None if size < 0 else size)
        elif number == 3 and value:
            return None
    return tuple(sizes)


def signature_to_json(signature: Signature) -> dict[str, Any]:
    """Give the JSON form of a SignatureDef, defaults printed, int64 as strings, as protobuf's JSON mapping does."""
    return {
        "inputs": {alias: _spec_to_json(spec) for alias, spec in signature.inputs.items()},
        "outputs": {alias: _spec_to_json(spec) for alias, spec in signature.outputs.items()},
        "method_name": signature.method_name,
        "defaults": {alias: tensor_proto_to_json(tensor) for alias, tensor in signature.defaults.items()},
    }


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    sizes = () if spec.shape is None else spec.shape
    return {
        "dtype": spec.dtype.enum_name,
        "tensor_shape": {
            "dim": [{"size": str(-1 if size is None else size), "name": ""} for size in sizes],
            "unknown_rank": spec.shape is None,
        },
        "name": spec.tensor_name,
    }


def signature_from_json(body: Mapping[str, Any]) -> Signature:
    """Read the JSON form of a SignatureDef; keys that protobuf leaves out at their defaults may be absent.

    Raises:
        DecodeError: It is not one.
    """
    try:
        return Signature(
            {alias: _spec_from_json(spec) for alias, spec in body.get("inputs", {}).items()},
            {alias: _spec_from_json(spec) for alias, spec in body.get("outputs", {}).items()},
            str(body.get("method_name", "")),
            dict.fromkeys(body.get("defaults", {}), b""),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"not a signature: {body!s:.200}") from error


def _spec_from_json(body: Mapping[str, Any]) -> TensorSpec:
    enum_name = body.get("dtype", "DT_INVALID")
    shape_body = body.get("tensor_shape", {})
    shape: Shape = None
    if not shape_body.get("unknown_rank", False):
        sizes = [int(dim.get("size", 0)) for dim in shape_body.get("dim", [])]
        shape = tuple(None if size < 0 else size for size in sizes)
    dtype = dtypes.BY_ENUM_NAME.get(enum_name) or DType(0, str(enum_name), str(enum_name))
    return TensorSpec(dtype, shape, str(body.get("name", "")))

"""A signature the way protobuf prints messages, for error texts that show it whole.

    inputs {
      key: "x"
      value {
        name: "serving_default_x:0"
        dtype: DT_FLOAT
        ...

Source: protobuf's text format (Message::DebugString); maps are printed in the order of their keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from .signatures import Signature, TensorSpec


def signature_text(signature: Signature) -> str:
    """Print a SignatureDef; inputs' defaults are left out."""
    return "".join(f"{line}\n" for line in _lines(signature))


def _lines(signature: Signature) -> Iterator[str]:
    for field, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        for alias in sorted(specs):
            yield f"{field} {{"
            yield f"  key: {_quote(alias)}"
            yield "  value {"
            yield from (f"    {line}" for line in _spec_lines(specs[alias]))
            yield "  }"
            yield "}"
    if signature.method_name:
        yield f"method_name: {_quote(signature.method_name)}"


def _spec_lines(spec: TensorSpec) -> Iterator[str]:
    if spec.tensor_name:
        yield f"name: {_quote(spec.tensor_name)}"
    yield f"dtype: {spec.dtype.enum_name}"
    yield "tensor_shape {"
    if spec.shape is None:
        yield "  unknown_rank: true"
    for size in spec.shape or ():
        yield "  dim {"
        if size != 0:
            yield f"    size: {-1 if size is None else size}"
        yield "  }"
    yield "}"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'

"""Signatures as metadata.json has them, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfbundle_serving.apis.signatures import Signature, TensorSpec, format_shape

SIGNATURE_COLUMNS = ("signature", "method", "role", "name", "dtype", "shape")


def signature_to_json(signature: Signature) -> dict[str, Any]:
    """Give a signature as metadata.json has it."""
    return {
        "inputs": {name: _spec_to_json(spec) for name, spec in sorted(signature.inputs.items())},
        "outputs": {name: _spec_to_json(spec) for name, spec in sorted(signature.outputs.items())},
        "method_name": signature.method_name,
    }


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"dtype": spec.type_name, "shape": None if spec.shape is None else list(spec.shape)}


def signature_rows(signatures: Mapping[str, Signature]) -> list[tuple[object, ...]]:
    """List all inputs and outputs of signatures, one a row."""
    return [
        (
            name,
            signature.method_name.rpartition("/")[2],
            role,
            alias,
            spec.type_name,
            "any" if spec.shape is None else format_shape(spec.shape),
        )
        for name, signature in signatures.items()
        for role, specs in (("input", signature.inputs), ("output", signature.outputs))
        for alias, spec in sorted(specs.items())
    ]

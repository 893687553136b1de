"""Figures and hashes of stored weights, as metadata.json has them for the weights of an export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tfbundle_serving.apis.errors import BundleError

from ..folder.weights import describe_weights
from .stored_weights import StoredWeight


def describe_stored(weights: Mapping[str, StoredWeight], troubles: list[str]) -> dict[str, dict[str, Any]]:
    """Describe stored weights as metadata.json does; one that cannot be read is a trouble instead."""
    described = {}
    for name, weight in weights.items():
        figures = _describe(name, weight, troubles)
        if figures is not None:
            described[name] = figures
    return described


def _describe(name: str, weight: StoredWeight, troubles: list[str]) -> dict[str, Any] | None:
    try:
        return _describe_text(weight) if weight.dtype == "string" else describe_weights({name: weight})[name]
    except (BundleError, OSError, KeyError, RuntimeError, ValueError) as error:
        troubles.append(f"weight {name}: {error}")
        return None


def _describe_text(weight: StoredWeight) -> dict[str, Any]:
    """Describe strings, such as a table's keys; their hash is over the length (8 bytes) and bytes of each."""
    digest = hashlib.sha256()
    for text in weight.numpy().ravel().tolist():
        data = text if isinstance(text, bytes) else str(text).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return {
        "shape": list(weight.shape),
        "dtype": "string",
        **dict.fromkeys(("mean", "std", "min", "max")),
        "sha256": digest.hexdigest(),
    }

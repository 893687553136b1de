"""Figures and hashes of a model's weights, so that two versions can be told apart or proven equal."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Values widened to float64 at a time, so that a large weight is not held twice.
_CHUNK = 1 << 20


def describe_weights(weights: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Describe each weight.

    Args:
        weights: Path ("dense/kernel") to tf.Variable.

    Returns:
        Path to shape, dtype, mean, std, min, max and the SHA-256 of the values as they lie in memory, row by row,
        little-endian. A figure that is not finite, or of an empty weight, is None.
    """
    return {path: _describe(np.asarray(variable.numpy())) for path, variable in weights.items()}


def _describe(values: NDArray[Any]) -> dict[str, Any]:
    values = np.ascontiguousarray(values).reshape(values.shape)
    flat = values.reshape(-1)
    return {
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        **dict.fromkeys(("mean", "std", "min", "max")),
        **(_figures(flat) if flat.size and flat.dtype.kind in "fiubV" else {}),
        "sha256": hashlib.sha256(flat.view(np.uint8).data).hexdigest(),
    }


def _figures(flat: NDArray[Any]) -> dict[str, float | None]:
    chunks = [slice(start, start + _CHUNK) for start in range(0, flat.size, _CHUNK)]
    with np.errstate(invalid="ignore", over="ignore"):
        mean = math.fsum(float(flat[chunk].astype(np.float64).sum()) for chunk in chunks) / flat.size
        squares = math.fsum(float(np.square(flat[chunk].astype(np.float64) - mean).sum()) for chunk in chunks)
        figures = {
            "mean": mean,
            "std": math.sqrt(squares / flat.size) if squares >= 0 else math.nan,
            "min": float(flat.min()),
            "max": float(flat.max()),
        }
    return {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}

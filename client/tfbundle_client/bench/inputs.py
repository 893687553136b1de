"""What a load sends: arrays drawn from a signature with a seed, or given ones cut to a number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.signatures import Signature, TensorSpec

#: Letters of a drawn string.
_LETTERS = 8


def draw_inputs(signature: Signature, rows: int, seed: int) -> dict[str, NDArray[Any]]:
    """Draw an array for each input that has no default.

    Floats are uniform in [0, 1); integers are 0 or 1, because they are often places in a table of unknown length.

    Args:
        signature: What is called.
        rows: Size of the first dimension where the signature leaves it open.
        seed: The same seed gives the same arrays.

    Raises:
        InvalidArgument: A rank or another dimension is open, so that only the caller knows what fits.
    """
    random = np.random.default_rng(seed)
    return {
        alias: _draw(alias, spec, rows, random)
        for alias, spec in sorted(signature.inputs.items())
        if alias not in signature.defaults
    }


def _draw(alias: str, spec: TensorSpec, rows: int, random: np.random.Generator) -> NDArray[Any]:
    if spec.shape is None or None in spec.shape[1:]:
        raise InvalidArgument(
            f"input {alias!r} is {spec}: no size can be guessed for it; give --input FILE or JSON", attempts=0
        )
    shape = tuple(rows if size is None else size for size in spec.shape)
    if spec.dtype.is_string:
        letters = random.integers(97, 123, (*shape, _LETTERS), dtype=np.uint8)
        strings = np.empty(shape, dtype=object)
        strings[...] = np.ascontiguousarray(letters).view(f"S{_LETTERS}")[..., 0].astype(object)
        return strings
    dtype = spec.dtype.to_numpy()
    if dtype.names is not None:
        raise InvalidArgument(f"input {alias!r} is {spec}: give --input FILE or JSON", attempts=0)
    if dtype.kind == "c":
        drawn = random.random(shape) + 1j * random.random(shape)
    elif dtype.kind in "iub" and dtype.name != "bfloat16":
        drawn = random.integers(0, 2, shape)
    else:
        drawn = random.random(shape)
    return np.asarray(drawn).astype(dtype)


def take_rows(inputs: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NDArray[Any]]:
    """Repeat or cut arrays along their first dimension.

    Raises:
        InvalidArgument: An array has no rows.
    """
    for name, array in inputs.items():
        if array.ndim == 0 or array.shape[0] == 0:
            raise InvalidArgument(f"input {name!r} of shape {array.shape} has no rows to make {rows} of", attempts=0)
    return {name: np.take(array, np.arange(rows) % array.shape[0], axis=0) for name, array in inputs.items()}

"""The reference inputs: rows that the user gives, or rows drawn from the signature.

They are what the gate asks both models, what golden.npz keeps for parity, and what the warm-up records send.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import BundleError, ExportError
from tfbundle_serving.apis.signatures import TensorSpec, format_shape

Arrays = dict[str, NDArray[Any]]

#: Enough rows to see a difference, few enough to be kept with every version.
MAX_ROWS = 256
MAX_BYTES = 1 << 25
#: The gate asks batches of one, two and three.
MIN_ROWS = 3

#: Rows that are drawn, edge rows included: one more than the widest vectors and the usual batch of 32.
_DRAWN_ROWS = 33
#: Stands in for a dimension of any size: in images something that survives a few poolings, else a short sequence.
_FREE_SIZE_IMAGE, _FREE_SIZE = 64, 8
_WORDS = (b"", b"a", b"the quick brown fox", "Grüße, 世界".encode(), b"0", b"A-B_c.d")


def read_examples(path: str | os.PathLike[str]) -> NDArray[Any] | Arrays:
    """Read example inputs from .npy (one input) or .npz (one member an input).

    Raises:
        ExportError: The file is missing, damaged or holds pickled objects; the message names it.
    """
    try:
        with Path(path).open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            with content:
                return dict(content.items())
    except FileNotFoundError:
        raise ExportError(f"{path}: there is no such file; expected example inputs as .npy or .npz") from None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects; save texts as an array of fixed-width bytes or str"
        pickled = "pickle" in str(error) and "Object arrays" in str(error)
        raise ExportError(
            f"{path} cannot be read as example inputs (.npy or .npz): {reason if pickled else error}"
        ) from error


def fit_examples(
    given: NDArray[Any] | Mapping[str, Any] | Sequence[Any],
    specs: Mapping[str, TensorSpec],
    layers: Sequence[str],
) -> Arrays:
    """Bring the user's example inputs into the form of the signature.

    Args:
        given: An array where the model has one input; else name to array, or arrays in the model's order.
        specs: Public input name to dtype and shape.
        layers: The input layers' own names, in the same order; examples may go by these, too.

    Returns:
        Public name to array of the signature's dtype, at least three rows (repeated where fewer were given), at most
        256 or 32 MiB of them. Where the signature is bound to a number of rows, exactly these.

    Raises:
        ExportError: A name, dtype, shape or number of rows does not fit; the message says what was expected.
    """
    arrays = {
        name: _fit(name, array, specs[name]) for name, array in _by_name(given, tuple(specs), tuple(layers)).items()
    }
    counts = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if 0 in counts.values() or (is_batched(specs) and len(set(counts.values())) != 1):
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ExportError(f"example inputs need the same number of rows, at least one, for each input; got {told}")
    return limit_rows(arrays) if is_batched(specs) else _take_bound_rows(arrays, specs)


def is_batched(specs: Mapping[str, TensorSpec]) -> bool:
    """Tell whether every input begins with a free batch dimension, as a server's batching and its clients expect."""
    return all(spec.shape is None or (len(spec.shape) > 0 and spec.shape[0] is None) for spec in specs.values())


def _by_name(given: Any, names: tuple[str, ...], layers: tuple[str, ...]) -> dict[str, Any]:
    wanted = f"the model's inputs are {', '.join(names)}"
    if isinstance(given, Mapping):
        if len(names) == len(given) == 1 and next(iter(given)) == "arr_0":  # np.savez without a name
            return {names[0]: next(iter(given.values()))}
        public = dict(zip(layers, names, strict=True)) | {name: name for name in names}
        unknown = [name for name in given if name not in public]
        if unknown:
            raise ExportError(f"example inputs name {unknown[0]!r}, which is no input; {wanted}")
        found = {public[name]: array for name, array in given.items()}
        missing = [name for name in names if name not in found]
        if missing:
            raise ExportError(f"example inputs lack {missing[0]!r}; {wanted}")
        return {name: found[name] for name in names}
    if len(names) == 1 and not (isinstance(given, (list, tuple)) and len(given) == 1 and _is_array(given[0])):
        return {names[0]: given}
    if isinstance(given, (list, tuple)) and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    raise ExportError(f"example inputs must be given as a mapping from name to array; {wanted}")


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _fit(name: str, given: Any, spec: TensorSpec) -> NDArray[Any]:
    array = np.asarray(given)
    what = f"example input {name!r}: expected {spec}, got {array.dtype} {format_shape(array.shape)}"
    if spec.shape is not None and not _fits(array.shape, spec.shape):
        raise ExportError(what)
    try:
        came = dtypes.of_numpy(array.dtype)
    except BundleError as error:
        raise ExportError(f"{what}: {error}") from error
    if spec.dtype.is_string or came.is_string:
        if came is not spec.dtype:
            raise ExportError(what)
        return _as_byte_strings(name, array)
    target = spec.dtype.to_numpy()
    # bfloat16 is no kind that numpy's own casting table knows.
    if not np.can_cast(array.dtype, target, "same_kind") and not (array.dtype.kind in "fiub" and target.kind == "V"):
        raise ExportError(f"{what}, which would lose information")
    return array.astype(target)


def _as_byte_strings(name: str, array: NDArray[Any]) -> NDArray[Any]:
    strings = np.empty(array.size, object)
    for place, element in enumerate(array.ravel().tolist()):
        if not isinstance(element, (str, bytes)):
            raise ExportError(f"example input {name!r} must hold texts or bytes, got {type(element).__name__}")
        strings[place] = element.encode() if isinstance(element, str) else element
    return strings.reshape(array.shape)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Tell whether rows fit; how many of them there are is seen to later."""
    return len(shape) == len(wanted) and all(
        size is None or size == got for size, got in zip(wanted[1:], shape[1:], strict=True)
    )


def limit_rows(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Keep the first rows that are enough; repeat rows where there are fewer than three."""
    rows = next(iter(arrays.values())).shape[0]
    row_bytes = max(1, sum(array.nbytes for array in arrays.values()) // rows)
    count = max(MIN_ROWS, min(rows, MAX_ROWS, MAX_BYTES // row_bytes))
    places = np.arange(count) % rows
    return {name: array[places] for name, array in arrays.items()}


def _take_bound_rows(arrays: Mapping[str, NDArray[Any]], specs: Mapping[str, TensorSpec]) -> Arrays:
    """Keep as many rows of each input as its own first dimension says; one row where it has no dimension at all."""
    bound = [spec.shape[0] for spec in specs.values() if spec.shape and spec.shape[0] is not None]
    taken: Arrays = {}
    for name, array in arrays.items():
        shape = specs[name].shape
        if shape == ():
            taken[name] = array if array.ndim == 0 else array[-1:].reshape(())
            continue
        own = shape[0] if shape else None
        count = own if own is not None else next(iter(bound), MIN_ROWS)
        taken[name] = array[np.arange(count) % array.shape[0]]
    return taken


def draw_examples(
    specs: Mapping[str, TensorSpec], *, seed: int, free_size: int | None = None, as_indices: bool = False
) -> Arrays:
    """Draw inputs from a signature: edge rows (zeros, ones, negative and large ones) and random ones.

    Integers are 0 or 1, the only indices that every embedding and one-hot layer takes. An input of unknown rank gets
    one number a row.

    Args:
        specs: Input name to dtype and shape.
        seed: Equal seeds draw equal inputs.
        free_size: Stands in for a dimension of any size; None takes 64 in images and 8 elsewhere.
        as_indices: Draw floats as 0 and 1, too: many an embedding takes its indices as floats.

    Returns:
        Input name to array: 33 rows, or as many as fit into 32 MiB (three at least), or as many as the signature is
        bound to.
    """
    random = np.random.default_rng(seed)
    shapes = {name: _row_shape(spec, free_size) for name, spec in specs.items()}
    row_bytes = sum(math.prod(shape) * _value_bytes(specs[name]) for name, shape in shapes.items())
    count = max(MIN_ROWS, min(_DRAWN_ROWS, MAX_BYTES // max(1, row_bytes)))
    drawn = {name: _draw(spec, shapes[name], count, random, as_indices) for name, spec in specs.items()}
    return drawn if is_batched(specs) else _take_bound_rows(drawn, specs)


def has_free_sizes(specs: Mapping[str, TensorSpec]) -> bool:
    """Tell whether an input has a dimension of any size besides its rows."""
    return any(size is None for spec in specs.values() for size in (spec.shape or ())[1:])


def _row_shape(spec: TensorSpec, free_size: int | None) -> tuple[int, ...]:
    sizes = (spec.shape or (None,))[1:]
    free = free_size or (_FREE_SIZE_IMAGE if len(sizes) >= 3 else _FREE_SIZE)
    return tuple(free if size is None else size for size in sizes)


def _value_bytes(spec: TensorSpec) -> int:
    return max(map(len, _WORDS)) if spec.dtype.is_string else spec.dtype.to_numpy().itemsize


def _draw(
    spec: TensorSpec, shape: tuple[int, ...], count: int, random: np.random.Generator, as_indices: bool
) -> NDArray[Any]:
    if spec.dtype.is_string:
        size = math.prod(shape)
        places = (np.arange(count * size) + random.integers(len(_WORDS))) % len(_WORDS)
        words: NDArray[Any] = np.empty(len(_WORDS), object)
        words[:] = _WORDS
        texts: NDArray[Any] = words[places].reshape((count, *shape))
        return texts
    dtype = spec.dtype.to_numpy()
    rows = np.empty((count, *shape), dtype)
    for place in range(count):
        edge = _EDGES[place // 2] if place % 2 == 0 and place // 2 < len(_EDGES) else None
        if as_indices or dtype.kind in "iub":
            rows[place] = random.integers(0, 2, shape) if edge is None else min(1, abs(edge))
        else:
            rows[place] = random.normal(size=shape) if edge is None else edge
    return rows


#: Rows that are one number throughout. They take turns with random rows, so that even three rows are no mere edges.
_EDGES = (0, 1, -1, 10)

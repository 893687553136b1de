"""The inputs of a parity check that has no recorded answers: given, recorded by a server, or drawn by chance.

{"image": array}                       given by the caller
inputs.npz, inputs.npy                 arrays by input name; one array for the only input
golden.npz                             the inputs of a golden.npz; its outputs are not looked at
tf_serving_warmup_requests             a TFRecord file of PredictionLogs, as servers record and replay them
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.errors import BundleError, DecodeError, ParityError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.prediction_log import RecordedRequest, read_prediction_logs
from tfbundle_serving.apis.signatures import Signature, TensorSpec

Inputs = str | os.PathLike[str] | Mapping[str, ArrayLike]

#: How many rows are drawn where nobody gives inputs, the three edge rows among them.
DRAWN_ROWS = 32
#: An axis of any length, other than the first, is drawn so long.
_ANY_LENGTH = 4
#: The value of the third row, which shows where a model overflows or saturates.
_LARGE = 1000
_WORDS = (b"", b"a", b"parity", b"A longer text, with punctuation.", "\u00e4\u00f6\u00fc \u4f60\u597d".encode())


@dataclass(frozen=True, slots=True)
class GivenInputs:
    """What both sides are asked.

    Attributes:
        arrays: Alias to array.
        origin: Where they come from, for reports.
    """

    arrays: Mapping[str, NDArray[Any]]
    origin: str


def read_inputs(inputs: Inputs, signature_name: str, signature: Signature, model: str = "") -> GivenInputs:
    """Read the inputs of one signature.

    Args:
        inputs: Arrays by name, or a file; see the module.
        signature_name: Whose inputs are wanted, where a file has those of several.
        signature: The signature; it names the input of a file that does not.
        model: Whose recorded requests are wanted, where a file has some to it and others; "" = all.

    Raises:
        ParityError: The file cannot be read, or has none for the signature.
    """
    if isinstance(inputs, Mapping):
        return GivenInputs({name: np.asarray(array) for name, array in inputs.items()}, "inputs given by the caller")
    path = Path(inputs)
    try:
        if path.suffix == ".npy":
            return GivenInputs(_name_the_only(_load_npy(path), signature, path), str(path))
        if path.suffix == ".npz":
            return GivenInputs(_load_npz(path, signature_name), str(path))
        torn: list[int] = []
        requests = list(read_prediction_logs(path, lambda at, _: torn.append(at)))
        given = _join([each for each in requests if each.model == model] or requests, signature_name, path)
        # A server may be writing it, or was killed: the whole requests are as good as ever.
        note = "".join(f"; what begins at byte {at} is cut off and was left out" for at in torn)
        return replace(given, origin=given.origin + note)
    except ParityError:
        raise
    except BundleError as error:
        raise ParityError(str(error)) from error
    except OSError as error:
        raise ParityError(f"cannot read the inputs {path}: {error.strerror or error}") from error


def draw_inputs(signature: Signature, *, rows: int = DRAWN_ROWS, seed: int = 0) -> GivenInputs:
    """Draw inputs by chance, the same for the same seed; the first rows are zeros, ones and large values.

    Args:
        signature: Gives names, dtypes and shapes; axes of any length but the first are drawn four long.
        rows: How many; inputs with a first axis of a fixed length have that many.
        seed: Of the random numbers.

    Raises:
        ParityError: An input has a dtype that nothing can be drawn for.
    """
    random = np.random.default_rng(seed)
    arrays = {name: _draw(spec, rows, random, name) for name, spec in signature.inputs.items()}
    return GivenInputs(arrays, f"inputs drawn from the signature, seed {seed}")


def _draw(spec: TensorSpec, rows: int, random: np.random.Generator, name: str) -> NDArray[Any]:
    axes = (None,) if spec.shape is None else spec.shape
    shape = tuple(
        length if length is not None else rows if place == 0 else _ANY_LENGTH for place, length in enumerate(axes)
    )
    if spec.dtype.is_string:
        words = np.empty(shape, object)
        words.ravel()[:] = [_WORDS[place] for place in random.integers(0, len(_WORDS), words.size)]
        return words
    dtype = spec.dtype.to_numpy()
    array: NDArray[Any]
    if dtype.kind in "fVc" or dtype.name in ("bfloat16", "float16"):
        if dtype.names is not None:
            raise ParityError(f"nothing can be drawn for the input {name!r} of dtype {spec.type_name}: give inputs")
        array = random.standard_normal(shape).astype(dtype)
        edges: tuple[Any, ...] = (0, 1, _LARGE)
        with np.errstate(over="ignore"):
            if not np.isfinite(np.asarray(_LARGE).astype(dtype).astype(np.complex128)):
                edges = (0, 1)  # eight bits do not reach as far
    elif dtype.kind == "b":
        array = random.integers(0, 2, shape).astype(dtype)
        edges = (False, True)
    else:
        # Small numbers: many integer inputs are places in a table.
        array = random.integers(0, 8, shape).astype(dtype)
        edges = (0, 1)
    if array.ndim and axes and axes[0] is None:
        for place, value in enumerate(edges[: len(array)]):
            array[place] = value
    return array


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DecodeError(f"{path} is not a .npy file: {error}") from error
    return array


def _name_the_only(array: NDArray[Any], signature: Signature, path: Path) -> dict[str, NDArray[Any]]:
    if len(signature.inputs) != 1:
        raise ParityError(
            f"{path} is one array, and the signature has the inputs {', '.join(sorted(signature.inputs))}: use .npz"
        )
    return {next(iter(signature.inputs)): array}


def _load_npz(path: Path, signature_name: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive)
            if not any("/inputs/" in name for name in names):
                return dict(archive.items())
    # AttributeError and TypeError: a lone array under this name is no archive.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError, TypeError) as error:
        raise DecodeError(f"{path} is not a .npz file: {error}") from error
    goldens = read_golden(path)
    if signature_name not in goldens:
        raise ParityError(f"{path} has no inputs of signature {signature_name}; it has {', '.join(sorted(goldens))}")
    return dict(goldens[signature_name].inputs)


def _join(requests: Sequence[RecordedRequest], signature_name: str, path: Path) -> GivenInputs:
    """Put recorded requests behind each other; those of another shape than most are left out, and that is said."""
    mine = [each.inputs for each in requests if each.signature == signature_name]
    if not mine:
        found = ", ".join(sorted({each.signature for each in requests})) or "none"
        raise ParityError(f"{path} has no requests to signature {signature_name}; it has {found}")
    kinds = [_kind(each) for each in mine]
    kind = max(kinds, key=kinds.count)
    usable = [each for each, other in zip(mine, kinds, strict=True) if other == kind]
    if any(array.ndim == 0 for array in usable[0].values()):
        usable = usable[:1]
    arrays = {
        name: usable[0][name] if len(usable) == 1 else np.concatenate([each[name] for each in usable])
        for name in usable[0]
    }
    count = (
        f"{len(mine)} requests" if len(usable) == len(mine) else f"{len(usable)} of {len(mine)} requests, of one shape"
    )
    return GivenInputs(arrays, f"{path} ({count})")


def _kind(arrays: Mapping[str, NDArray[Any]]) -> tuple[object, ...]:
    """Tell which requests can be put behind each other: the same inputs, dtypes and shapes of a row."""
    return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in arrays.items()))


def rows_of(arrays: Iterable[NDArray[Any]]) -> int:
    """Count the examples: the first size that all arrays share, or 1 where they do not have one."""
    sizes = {array.shape[0] if array.ndim else None for array in arrays}
    return next(iter(sizes)) or 0 if len(sizes) == 1 and None not in sizes else 1

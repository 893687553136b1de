"""Expected answers that nobody recorded: another version, a version folder or the source model is asked for them.

It is asked twice, all rows together and row by row: by how much it differs from itself is the noise floor, which tells
a rounding of the kernels from a fault of serving.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import EXACT, Tolerance, compare
from tfbundle_serving.apis.errors import ApiError, ParityError
from tfbundle_serving.apis.golden import Golden
from tfbundle_serving.apis.signatures import Signature
from tfbundle_serving.apis.version_folder import SAVED_MODEL, WARMUP_REQUESTS, golden_path, list_versions

from ..client import Client
from ..local.folder import find_models
from .inputs import GivenInputs, Inputs, draw_inputs, read_inputs, rows_of
from .reference import Expected, Reference
from .sides import Arrays, ExpectedSide, ServedSide

#: So many rows are run one by one for the noise floor.
_NOISE_ROWS = 32
#: Rows that alone are off by more than this share of the largest value are no rounding, not even that of bfloat16.
_ROUNDING = 0.02
#: A source model is a file with one of these endings.
_SOURCE_ENDINGS = (".keras", ".h5", ".hdf5")


def is_source(reference: Reference | None) -> bool:
    """Whether a reference is a file of the source model, which has to be run for its answers."""
    return isinstance(reference, (str, os.PathLike)) and Path(reference).suffix.lower() in _SOURCE_ENDINGS


def open_reference(
    reference: Reference | None, served: ServedSide, signature: Signature, stack: ExitStack
) -> ExpectedSide:
    """Make the side that runs a reference in this process.

    Args:
        reference: A .keras or .h5 file, a version folder, a base path, or any SavedModel.
        served: What is compared with it; its version chooses the folder below a base path.
        signature: The served signature; it names what a Keras model leaves unnamed.
        stack: Closes the models in the end.

    Raises:
        ParityError: It is none of these.
    """
    if not isinstance(reference, (str, os.PathLike)):
        raise ParityError("inputs are asked of a model: give its path as the reference, or a server (against)")
    path = Path(reference)
    if is_source(path):
        from ..local.source import KerasSource

        return KerasSource(path, signature)
    if not path.is_dir():
        raise ParityError(f"{path} is no model that can be run: expected a version folder, a base path, .keras or .h5")
    models = find_models(path)
    name = served.model if served.model in models else next(iter(models))
    number = next(iter(models[name])) if (path / SAVED_MODEL).exists() else served.version
    client = stack.enter_context(Client(f"local:{path}"))
    return ServedSide(client=client, model=name, version=number, timeout=served.timeout)


def find_inputs(
    inputs: Inputs | None,
    reference: Reference | None,
    version: int,
    signature_name: str,
    signature: Signature,
    model: str = "",
) -> GivenInputs:
    """Find what both sides are asked: what was given, else what lies by the reference, else drawn inputs.

    Args:
        inputs: What was given.
        reference: Where a golden.npz or recorded warm-up requests may lie.
        version: The version that is served; it chooses the folder below a base path.
        signature_name: The signature that is called.
        signature: The same.
        model: The model that is asked; of recorded requests to several, those to it count.

    Raises:
        ParityError: What was given, or lies there, cannot be used.
    """
    if inputs is not None:
        return read_inputs(inputs, signature_name, signature, model)
    if isinstance(reference, Golden):
        return GivenInputs(reference.inputs, "inputs given by the caller")
    if isinstance(reference, tuple):
        return read_inputs(reference[0], signature_name, signature)
    if reference is None or is_source(reference):
        return draw_inputs(signature)
    path = Path(reference)
    if path.is_file():
        return read_inputs(path, signature_name, signature)
    found = (_read_if_any(each, signature_name, signature) for each in _files_in(path, version))
    return next((each for each in found if each is not None), None) or draw_inputs(signature)


def _read_if_any(path: Path, signature_name: str, signature: Signature) -> GivenInputs | None:
    """Read a file that nobody named; it may be of other signatures."""
    try:
        return read_inputs(path, signature_name, signature)
    except ParityError:
        return None


def _files_in(path: Path, version: int) -> list[Path]:
    """List the files that hold inputs in a version folder, or in that of the version below a base path."""
    folder: Path | None = path
    if not (path / SAVED_MODEL).exists():
        try:
            folder = list_versions(path).get(version)
        except OSError as error:
            raise ParityError(f"cannot read the reference {path}: {error.strerror or error}") from error
    candidates = [] if folder is None else [golden_path(folder), folder / WARMUP_REQUESTS]
    return [each for each in candidates if each.is_file()]


def ask_expected(side: ExpectedSide, given: GivenInputs, signature_name: str) -> Expected:
    """Ask a side for the expected answers, and how much it differs from itself.

    Args:
        side: Who knows the right answers.
        given: What is asked.
        signature_name: The signature that is called.

    Raises:
        ApiError: It could not answer.
    """
    outputs = side.expected(given.arrays, signature_name, ())
    rows = rows_of(given.arrays.values())
    noise_floor, is_batchable = None, True
    if rows > 1 and all(array.ndim and array.shape[0] == rows for array in outputs.values()):
        noise_floor = _noise(side, given.arrays, outputs, signature_name, min(rows, _NOISE_ROWS))
        is_batchable = noise_floor is not None
    return Expected(
        golden=Golden(given.arrays, outputs),
        signature=signature_name,
        origin=f"{side.origin}, {given.origin}",
        noise_floor=noise_floor,
        is_batchable=is_batchable,
    )


def _noise(side: ExpectedSide, inputs: Arrays, together: Arrays, signature_name: str, rows: int) -> float | None:
    """Give the largest difference between rows run alone and together; None where they do not stand for
    themselves, or cannot be run alone.
    """
    alone: dict[str, list[NDArray[Any]]] = {name: [] for name in together}
    for row in range(rows):
        try:
            answer = side.expected(
                {name: array[row : row + 1] for name, array in inputs.items()}, signature_name, tuple(together)
            )
        except ApiError:
            return None
        for name, array in answer.items():
            alone[name].append(array)
    found = 0.0
    for name, parts in alone.items():
        whole = together[name][:rows]
        if any(part.shape[:1] != (1,) or part.shape[1:] != whole.shape[1:] for part in parts):
            return None
        comparison = compare(whole, np.concatenate(parts), _rounding_of(whole))
        if not comparison.equal:
            return None
        found = max(found, comparison.max_abs_diff)
    return found


def _rounding_of(array: NDArray[Any]) -> Tolerance:
    """Give what can still be rounding; anything more means that rows see each other."""
    if array.dtype.kind in "OSUbiu" or array.size == 0:
        return EXACT
    sizes = np.abs(array.astype(np.complex128))
    return Tolerance(atol=_ROUNDING * float(np.max(sizes, where=np.isfinite(sizes), initial=0.0)))

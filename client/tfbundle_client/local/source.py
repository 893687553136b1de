"""A Keras file as the expected side of a parity check: it is loaded by Keras 3 and run in this process.

Keras 3 loads many files of Keras 2 with other results than they had (RNN layers, hard_sigmoid, flipped defaults), so
those are refused here; the exporter knows how to treat them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import InvalidArgument, ParityError
from tfbundle_serving.apis.signatures import Signature

Arrays = Mapping[str, NDArray[Any]]

_CONFIG = "metadata.json"


class KerasSource:
    """A model in a .keras or .h5 file.

    Args:
        path: The file.
        signature: The served signature; where it and the model have one input (or output) each, that is meant.

    Raises:
        ParityError: Keras is not installed, the file is none of Keras 3, or Keras cannot load it; one line.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        self._path = path
        self._signature = signature
        self._model = _load(path)

    @property
    def origin(self) -> str:
        """Name the file."""
        return f"{self._path}, run by Keras in this process"

    def expected(self, inputs: Arrays, _signature_name: str, outputs: Sequence[str], /) -> Arrays:
        """Answer; see `parity_sides.ExpectedSide`."""
        given = _match(list(self._signature.inputs), self._input_names(), "input", self._path)
        arrays = {theirs: inputs[ours] for ours, theirs in given.items()}
        try:
            answer = self._model(next(iter(arrays.values())) if len(arrays) == 1 else arrays, training=False)
        except Exception as error:  # layers of the user's own fail in ways of their own
            raise InvalidArgument(f"{self._path} refuses the inputs: {_first_line(error)}", attempts=0) from error
        named = self._name(answer)
        matched = _match(list(self._signature.outputs), list(named), "output", self._path)
        return {ours: np.asarray(named[theirs]) for ours, theirs in matched.items() if not outputs or ours in outputs}

    def check_available(self, when: str) -> None:
        """A model in this process does not go away."""

    def _name(self, answer: Any) -> dict[str, Any]:
        if isinstance(answer, Mapping):
            return dict(answer)
        answers = list(answer) if isinstance(answer, (list, tuple)) else [answer]
        if len(answers) == 1:  # its name does not matter, and a Sequential has none
            return {"output": answers[0]}
        return dict(zip(self._model.output_names, answers, strict=True))

    def _input_names(self) -> list[str]:
        try:
            return [each.name for each in self._model.inputs]
        except (AttributeError, TypeError, ValueError):  # a subclassed model, or one that was never built, has none
            return list(self._signature.inputs)


def _match(ours: list[str], theirs: list[str], what: str, path: Path) -> dict[str, str]:
    if len(ours) == len(theirs) == 1:
        return {ours[0]: theirs[0]}
    if set(ours) != set(theirs):
        raise ParityError(
            f"{path} has the {what}s {', '.join(sorted(theirs))}, the signature has {', '.join(sorted(ours))}: "
            "export the file (tfbundle export) and name the version folder as the reference"
        )
    return {name: name for name in ours}


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ParityError(f"{path} is missing")
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ParityError(
            f"{path} needs Keras to be run: pip install 'tfbundle[export]', or name an exported version folder"
        ) from error
    written_by = _written_by(path)
    if written_by.partition(".")[0] < "3" or not keras.__version__.startswith("3."):
        raise ParityError(
            f"{path} was written by Keras {written_by or 'before 2'}, and Keras {keras.__version__} does not load such "
            "files faithfully: run `tfbundle export` on it and name the version folder as the reference"
        )
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # custom objects fail in ways of their own
        raise ParityError(f"Keras cannot load {path}: {_first_line(error)}") from error
    return model


def _written_by(path: Path) -> str:
    """Find the version of Keras that wrote a file; "" where it does not say."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read(_CONFIG)).get("keras_version", ""))
        import h5py

        with h5py.File(path, "r") as file:
            found = file.attrs.get("keras_version", "")
            return found.decode() if isinstance(found, bytes) else str(found)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ParityError(f"{path} is no model of Keras: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

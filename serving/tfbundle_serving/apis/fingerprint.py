"""fingerprint.pb: TensorFlow's hashes of a SavedModel's parts, read without TensorFlow.

New weights change the checkpoint's hash alone, so that "same graph, new weights" can be told.

Source: tensorflow/core/protobuf/fingerprint.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import DecodeError
from .wire import fields, view

FINGERPRINT = "fingerprint.pb"
_GRAPH, _SIGNATURES, _OBJECTS, _CHECKPOINT = 2, 3, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The hashes of a SavedModel's parts.

    Attributes:
        graph: Of the graph and its functions.
        signatures: Of the signatures.
        objects: Of the objects that hold variables and functions.
        checkpoint: Of the variables' names and values.
    """

    graph: int
    signatures: int
    objects: int
    checkpoint: int

    @property
    def singleprint(self) -> str:
        """All of them in one text, as TensorFlow's own singleprint has it."""
        return f"{self.graph}/{self.signatures}/{self.objects}/{self.checkpoint}"


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """Read a SavedModel's fingerprint; None where it has none, as before TensorFlow 2.11.

    Raises:
        DecodeError: The file is damaged; the message names it.
        OSError: It cannot be read.
    """
    path = folder / FINGERPRINT
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    found = dict.fromkeys((_GRAPH, _SIGNATURES, _OBJECTS, _CHECKPOINT), 0)
    try:
        for number, _, value in fields(view(data)):
            if number in found and isinstance(value, int):
                found[number] = value
    except DecodeError as error:
        raise DecodeError(f"{path} is damaged: {error}") from error
    return Fingerprint(
        graph=found[_GRAPH], signatures=found[_SIGNATURES], objects=found[_OBJECTS], checkpoint=found[_CHECKPOINT]
    )

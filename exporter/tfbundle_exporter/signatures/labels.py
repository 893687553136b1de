"""Names of classes: read from a file, and held against the output that they name.

tench                   ["tench", "goldfish"]        {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}
goldfish                                             {"tench": 0, "goldfish": 1}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..runtime import import_tensorflow


def read_labels(labels: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Read the classes' names.

    Args:
        labels: The names, or a UTF-8 file: one a line, or JSON: a list, {number: name or list that ends with the
            name}, or {name: number}.

    Raises:
        ExportError: The file is missing or is none of these; the message names it.
    """
    if not isinstance(labels, (str, os.PathLike)):
        return _all_texts("the labels", list(labels))
    path = Path(labels)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror}; expected a file of labels, one a line") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        content = json.loads(text) if text.lstrip()[:1] in ("[", "{") else None
    except json.JSONDecodeError as error:
        if path.suffix == ".json":
            raise ExportError(f"{path} is no JSON: {error}") from error
        content = None
    if isinstance(content, dict):
        return _by_number(str(path), content)
    return _all_texts(str(path), content if isinstance(content, list) else text.rstrip().splitlines())


def _all_texts(where: str, labels: list[Any]) -> tuple[str, ...]:
    if not labels:
        raise ExportError(f"{where}: expected at least one label")
    for number, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise ExportError(f"{where}: label {number} (counted from 0) is {label!r}; expected a text")
    return tuple(label.strip() for label in labels)


def _by_number(where: str, labels: dict[str, Any]) -> tuple[str, ...]:
    if all(isinstance(number, int) for number in labels.values()):
        names = {number: name for name, number in labels.items()}
    else:
        names = {
            int(number) if number.isdecimal() else -1: label[-1] if isinstance(label, list) and label else label
            for number, label in labels.items()
        }
    if names.keys() != set(range(len(labels))):
        raise ExportError(f"{where}: expected the numbers 0 to {len(labels) - 1}, one a label")
    return _all_texts(where, [names[number] for number in range(len(labels))])


def as_scores(values: Any, *, signature: str, output: str) -> Any:
    """See an output as scores: float32 (n, classes).

    Raises:
        ExportError: It has no axis of classes, or does not hold numbers.
    """
    tf = import_tensorflow()
    rank = values.shape.rank
    if rank not in (None, 1, 2) or values.dtype == tf.string or values.dtype.is_complex:
        raise ExportError(
            f"signature {signature!r}: output {output!r} is {values.dtype.name} {values.shape}; "
            "expected scores (batch, classes)"
        )
    return tf.cast(values[:, tf.newaxis] if rank == 1 else values, tf.float32)


def check_width(labels: Sequence[str], scores: Any, *, signature: str, output: str) -> None:
    """Check that there is one label for each score.

    Raises:
        ExportError: There is not; the message says both numbers.
    """
    width = scores.shape[1]
    if width is not None and width != len(labels):
        raise ExportError(
            f"signature {signature!r}: there are {len(labels)} labels, but output {output!r} has {width} classes"
        )

"""Accuracy of expected and of served answers, where the true classes are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.errors import ParityError


def read_truth(
    labels: ArrayLike | None, examples: int, outputs: Mapping[str, NDArray[Any]], label_output: str | None
) -> tuple[str, NDArray[Any]] | None:
    """Find the output that predicts the labels.

    Args:
        labels: True classes, shape (n,); None where they are not known.
        examples: n.
        outputs: The expected outputs.
        label_output: The output that is meant; None means the only one that can be.

    Returns:
        The output's name and the labels; None without labels.

    Raises:
        ParityError: The labels have another shape, or no output or several could predict them.
    """
    if labels is None:
        return None
    truth = np.asarray(labels)
    if truth.shape != (examples,):
        raise ParityError(f"labels have shape {truth.shape}, expected ({examples},): one class for each example")
    able = [name for name, array in outputs.items() if _predicts_classes(array, examples)]
    if label_output is not None:
        if label_output not in able:
            raise ParityError(
                f"output {label_output!r} predicts no classes; those that do: {', '.join(able) or 'none'}"
            )
        return label_output, truth
    if len(able) != 1:
        raise ParityError(f"say which output predicts the labels (label_output): {', '.join(able) or 'none can'}")
    return able[0], truth


def _predicts_classes(array: NDArray[Any], examples: int) -> bool:
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
        return False
    return array.shape[0] == examples and (array.dtype.kind == "f" or array.ndim == 1 or array.shape[1] == 1)


def accuracy(output: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """Give the share of right predictions; None where there are no examples, or the server left some out."""
    if output.shape[:1] != labels.shape or labels.size == 0:
        return None
    classes: NDArray[Any]
    if output.ndim == 2 and output.shape[1] > 1:
        classes = output.argmax(axis=1)
    else:
        flat = output.reshape(-1)
        classes = flat > 0.5 if flat.dtype.kind == "f" else flat
    return float(np.mean(classes == labels))

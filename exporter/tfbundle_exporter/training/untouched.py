"""The state of a model in training, put back after it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Leave no trace of an export in the model: neither in random seeds nor in what layers remember between calls.

    An answer moves the seed of every random layer that stays on, and the state of every stateful layer.

    Args:
        model: A built model of either Keras.
    """
    before = [(variable, _value(variable)) for variable in _state(model)]
    try:
        yield
    finally:
        for variable, value in before:
            if not np.array_equal(value, _value(variable)):
                variable.assign(value)


def _state(model: Any) -> Iterator[Any]:
    """Yield what a call in inference can change; the trained weights and the optimizer are none of it."""
    yield from model.non_trainable_variables
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            yield from _flatten(getattr(layer, "states", None) or ())


def _flatten(states: Any) -> Iterator[Any]:
    for state in states:
        if isinstance(state, (list, tuple)):
            yield from _flatten(state)
        elif hasattr(state, "assign"):
            yield state


def _value(variable: Any) -> Any:
    return np.asarray(variable.numpy())

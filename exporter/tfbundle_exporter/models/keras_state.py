"""What a Keras model keeps besides its weights: how it was trained, what it remembers between calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..runtime import import_tensorflow
from .structure import leaves


def describe_training(model: Any) -> dict[str, Any]:
    """Read what a compiled model knows of its training; one loaded for serving is not compiled."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return {}
    compiled = model.get_compile_config() or {}
    return {
        "optimizer": {"class_name": type(optimizer).__name__, "config": optimizer.get_config()},
        "loss": compiled.get("loss"),
        "metrics": compiled.get("metrics"),
    }


def stateful_layers(model: Any) -> tuple[Any, ...]:
    """Find the layers that keep state from one call to the next: recurrent ones with stateful=True."""
    return tuple(
        layer for layer in model._flatten_layers() if getattr(layer, "stateful", False) and hasattr(layer, "states")
    )


def keep_state(layers: tuple[Any, ...]) -> Callable[[], None]:
    """Remember the state that layers are in.

    Returns:
        Brings it back.
    """
    kept = [(variable, variable.numpy()) for variable in state_variables(layers)]

    def reset() -> None:
        for variable, value in kept:
            variable.assign(value)

    return reset


def state_variables(layers: tuple[Any, ...]) -> Iterator[Any]:
    """List the tf.Variables that layers keep their state in; Keras 3 does not count them among its variables."""
    kind = import_tensorflow().Variable
    for state in leaves([layer.states for layer in layers]):
        variable = state if isinstance(state, kind) else getattr(state, "value", None)
        if isinstance(variable, kind):
            yield variable

"""The names that Keras 2 gave a served model, so that clients of those days go on working.

`model.save(folder)` of Keras 2 called inputs and outputs by their layers; this says what it would have said:

    Sequential([Dense(2)])                        dense_input -> dense
    Sequential([Input((4,)), Dense(2)])           input_1 -> dense
    Model(inputs, {"zeta": a, "alpha": b})        the layers of b and a, not the keys
    a class with its own `call`                   input_1 -> output_1, or the keys of dicts
    the same returning {"t": [x, y]}              t_1, t_2

A layer that has no name of its own has a number in it that counts what the process built before; Keras 3 counts alike.

Source: tf_keras saving_utils.trace_model_call and compile_utils.create_pseudo_output_names; held against `model.save`
in the tests.
"""

from __future__ import annotations

import re
from typing import Any

from ..models import keras_3
from ..models.source_model import SourceModel
from ..models.structure import Path, flatten, leaves
from ..runtime import import_keras
from .names import uniquify

#: How Keras 3 calls an Input without a name. Keras 2 said input_1 and counted from one.
_UNNAMED_INPUT = re.compile(r"input_layer(?:_(\d+))?")


def keras2_names(model: SourceModel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the inputs and outputs of the main signature as Keras 2 did.

    Args:
        model: The source. A SavedModel or tf.Module keeps its own names, which are what Keras 2 gave it if it was that.

    Returns:
        The names of the inputs and of the outputs, each in the model's order.
    """
    main = model.main
    if model.family == "tensorflow":
        return tuple(main.inputs), main.output_names
    if not _is_graph_of_layers(model):
        return _by_place(main.arguments, "input_"), _by_place(main.results, "output_")
    # A Sequential of Keras 3 has outputs and no structure of them.
    output = getattr(model.live, "output", None)
    outputs = leaves(model.live.outputs if output is None else output)
    return _input_layers(model), uniquify([_layer_of(output) for output in outputs])


def _is_graph_of_layers(model: SourceModel) -> bool:
    return bool(getattr(model.live, "inputs", None))


def _layer_of(symbol: Any) -> str:
    history = symbol._keras_history
    return str((history.operation if hasattr(history, "operation") else history.layer).name)


def _input_layers(model: SourceModel) -> tuple[str, ...]:
    own = tuple(model.main.inputs)
    if model.family == "tf_keras":
        return own
    if isinstance(model.live, import_keras().Sequential) and _learnt_its_input(model.live):
        return (f"{model.live.layers[0].name}_input",)
    return tuple(_unnamed_as_in_keras_2(name) for name in own)


def _learnt_its_input(model: Any) -> bool:
    """Tell whether the Input of a Sequential stands for its first layer's input_shape, or for its first call."""
    return keras_3.adds_its_input(model) or getattr(model.layers[0], "_input_shape_arg", None) is not None


def _unnamed_as_in_keras_2(name: str) -> str:
    match = _UNNAMED_INPUT.fullmatch(name)
    return f"input_{int(match[1] or 0) + 1}" if match else name


def _by_place(structure: Any, prefix: str) -> tuple[str, ...]:
    return tuple(_pseudo_name(path, prefix) for path, _ in flatten(structure))


def _pseudo_name(path: Path, prefix: str) -> str:
    """Name what a call takes or gives by the way to it, places counted from one."""
    if not path:
        return f"{prefix}1"
    name = "_".join(str(step + 1 if isinstance(step, int) else step) for step in path)
    return prefix + name if isinstance(path[0], int) else name

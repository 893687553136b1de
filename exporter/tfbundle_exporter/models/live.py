"""A live model becomes a SourceModel: Keras 3, tf_keras, tf.Module, or a SavedModel that was loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..signatures.names import uniquify
from ..sources.artefacts import Family
from .functional import functional_call
from .keras_2 import view_keras_2
from .keras_3 import view_keras_3
from .keras_state import describe_training, keep_state, state_variables, stateful_layers
from .keras_view import KerasView
from .saved_model import adapt_loaded, is_loaded_saved_model
from .source_model import SourceModel
from .subclassed import build_by_call, subclassed_call
from .tensorflow_module import adapt_module, is_module
from .trackables import find_resources, find_variables, join_variables

_VIEWS: dict[Family, Callable[[Any], KerasView]] = {"keras": view_keras_3, "tf_keras": view_keras_2}


def family_of_model(model: object) -> Family | None:
    """Name the package that a live model belongs to; None where it is no model."""
    for family in _VIEWS:
        module = sys.modules.get(family)
        if module is not None and isinstance(model, module.Model):
            return family
    return "tensorflow" if is_module(model) or is_loaded_saved_model(model) else None


def adapt(live: Any, *, examples: Any = None) -> SourceModel:
    """See a live model as the exporter does.

    Args:
        live: A Keras 3 or tf_keras model, a tf.Module, or what tf.saved_model.load returned. A Keras model that never
            was called is built by one call on the examples.
        examples: Example inputs: an array; name to array; or arrays in order. They are needed where the model does
            not say what it takes.

    Raises:
        ExportError: It is none of these, takes sparse or ragged tensors, or does not say what its inputs are.
    """
    family = family_of_model(live)
    if family in _VIEWS:
        return _adapt_keras(_VIEWS[family], live, examples)
    if is_loaded_saved_model(live):
        return adapt_loaded(live, name="saved_model")
    if family == "tensorflow":
        return adapt_module(live, examples=examples)
    raise ExportError(
        f"cannot export a {type(live).__module__}.{type(live).__qualname__}; expected a Keras 3 or tf_keras model, "
        "a tf.Module, or the path of a model file or SavedModel folder"
    )


def _adapt_keras(look: Callable[[Any], KerasView], model: Any, examples: Any) -> SourceModel:
    view = look(model)
    if not view.was_called:
        build_by_call(view, examples)
        view = look(model)
    main = functional_call(view, examples) if view.inputs else subclassed_call(view, examples)
    # Keras 3 passes by a tf.Variable that a layer holds; the graph uses it all the same.
    others = [(path, variable) for path, variable in _attributes(view) if id(variable) not in _ids(view)]
    weights = [*view.weights, *others]
    stateful = stateful_layers(model)
    return SourceModel(
        name=str(model.name),
        family=view.family,
        library_version=view.library_version,
        main=main,
        variables=join_variables(view.variables, [variable for _, variable in others], state_variables(stateful)),
        resources=find_resources(model),
        weights=dict(zip(uniquify([path for path, _ in weights]), (weight for _, weight in weights), strict=True)),
        training=describe_training(model),
        stateful=tuple(str(layer.name) for layer in stateful),
        reset=keep_state(stateful) if stateful else None,
        live=model,
    )


def _attributes(view: KerasView) -> Iterator[tuple[str, Any]]:
    layers = list(view.model._flatten_layers())
    passed = (*view.beside, *{type(layer) for layer in layers})
    for layer in layers:
        for path, variable in find_variables(layer, beside=passed).items():
            yield f"{layer.name}/{path}", variable


def _ids(view: KerasView) -> set[int]:
    return {id(variable) for variable in view.variables}

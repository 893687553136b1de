"""A Keras 3 or tf_keras model as the exporter sees it: named inputs, named outputs, one call, its state."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_keras, import_tensorflow, import_tf_keras
from ..signatures.names import uniquify
from ..sources.artefacts import Family
from .source_model import SourceCall, SourceModel


def is_live_model(source: object) -> bool:
    """Tell whether an object is a model of either Keras, without importing one."""
    return family_of_model(source) is not None


def family_of_model(model: object) -> Family | None:
    """Name the package that a live model belongs to; None where it is no model."""
    families: tuple[Family, ...] = ("keras", "tf_keras")
    for family in families:
        module = sys.modules.get(family)
        if module is not None and isinstance(model, module.Model):
            return family
    return None


def adapt(model: Any) -> SourceModel:
    """See a live model as the exporter does.

    Raises:
        ExportError: It has no inputs yet (subclassed, or not built), or takes sparse or ragged tensors.
    """
    family = family_of_model(model)
    if family == "keras":
        import_keras()
        return _adapt_keras(model)
    if family == "tf_keras":
        return _adapt_tf_keras(model)
    raise ExportError(
        f"cannot export a {type(model).__module__}.{type(model).__qualname__}; "
        "expected a Keras 3 or tf_keras model, or the path of an .h5, .hdf5 or .keras file"
    )


def _adapt_keras(model: Any) -> SourceModel:
    import keras

    symbols = _symbolic_inputs(model)
    for symbol in symbols:
        if getattr(symbol, "sparse", False) or getattr(symbol, "ragged", False):
            # Keras 3 would export it as a plain dense tensor and say nothing.
            raise _not_dense(model, symbol.name)
    # A Sequential has no structure of inputs; it takes one tensor. A KerasTensor's own name comes from a counter
    # that runs on through the process, so the layer's name is the one that stays.
    structure = symbols[0] if isinstance(model, keras.Sequential) else model.input
    specs = {_layer_name(symbol): _spec(symbol.dtype, symbol.shape) for symbol in symbols}
    outputs = [_layer_name(symbol) for symbol in model.outputs]
    return _build(
        model,
        family="keras",
        library_version=keras.__version__,
        inputs=specs,
        output_layers=outputs,
        symbolic_output=None if isinstance(model, keras.Sequential) else model.output,
        pack=lambda tensors: keras.tree.pack_sequence_as(structure, list(tensors)),
        variables=[variable.value for variable in model.variables],
        # A Sequential puts its own name in front, which comes from a counter, too, where the user gave none.
        weights=[(weight.path.removeprefix(f"{model.name}/"), weight.value) for weight in model.weights],
    )


def _layer_name(symbol: Any) -> str:
    return str(symbol._keras_history.operation.name)


def _adapt_tf_keras(model: Any) -> SourceModel:
    tf = import_tensorflow()
    tf_keras = import_tf_keras()
    symbols = _symbolic_inputs(model)
    for name, symbol in zip(model.input_names, symbols, strict=True):
        if not isinstance(symbol.type_spec, tf.TensorSpec):
            raise _not_dense(model, name)
    specs = {
        name: _spec(symbol.dtype.name, symbol.shape.as_list())
        for name, symbol in zip(model.input_names, symbols, strict=True)
    }
    # A vocabulary counts as a weight there; it is a look-up table.
    weights = [(weight.name.removesuffix(":0"), weight) for weight in model.weights if isinstance(weight, tf.Variable)]
    return _build(
        model,
        family="tf_keras",
        library_version=tf_keras.__version__,
        inputs=specs,
        output_layers=list(model.output_names),
        symbolic_output=model.output,
        pack=lambda tensors: tf.nest.pack_sequence_as(model.input, list(tensors)),
        variables=[variable for variable in model.variables if isinstance(variable, tf.Variable)],
        weights=weights,
    )


def _symbolic_inputs(model: Any) -> list[Any]:
    symbols = getattr(model, "inputs", None)
    if symbols:
        return list(symbols)
    how = (
        "call it once on example data first, or begin it with an Input layer"
        if type(model).__name__ == "Sequential"
        else "make it a functional model around it: keras.Model(inputs, model(inputs))"
    )
    raise ExportError(f"model {model.name!r} does not say what its inputs are; {how}")


def _not_dense(model: Any, name: str) -> ExportError:
    return ExportError(f"model {model.name!r}: input {name!r} is sparse or ragged; only dense tensors can be served")


def _spec(dtype: str, shape: Sequence[int | None]) -> TensorSpec:
    number = import_tensorflow().as_dtype(dtype).as_datatype_enum
    # Whatever batch size the model was built with, it is served with any; the gate finds out if it cannot be.
    return TensorSpec(dtypes.by_number(number), (None, *shape[1:]))


def _build(
    model: Any,
    *,
    family: Family,
    library_version: str,
    inputs: Mapping[str, TensorSpec],
    output_layers: Sequence[str],
    symbolic_output: Any,
    pack: Callable[[Sequence[Any]], Any],
    variables: Sequence[Any],
    weights: Sequence[tuple[str, Any]],
) -> SourceModel:
    flatten = import_tensorflow().nest.flatten
    names = tuple(symbolic_output) if isinstance(symbolic_output, dict) else tuple(output_layers)
    if isinstance(symbolic_output, dict):
        names = tuple(sorted(names))  # the order in which a dict is flattened
        if len(names) != len(output_layers):
            raise ExportError(f"model {model.name!r} returns a dict of lists; expected one tensor under each key")

    def call(tensors: Sequence[Any]) -> list[Any]:
        return list(flatten(model(pack(tensors), training=False)))

    return SourceModel(
        name=str(model.name),
        family=family,
        library_version=library_version,
        main=SourceCall(inputs=inputs, output_names=uniquify(names), call=call),
        variables=tuple(variables),
        resources=tuple(_resources(model)),
        weights=dict(zip(uniquify([path for path, _ in weights]), (weight for _, weight in weights), strict=True)),
        training=_training(model),
    )


def _resources(model: Any) -> Iterator[Any]:
    """Find the tables among everything that the model tracks; a SavedModel that lacks one cannot be written."""
    kind = import_tensorflow().saved_model.experimental.TrackableResource
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        trackable = waiting.pop()
        if id(trackable) in seen:
            continue
        seen.add(id(trackable))
        if isinstance(trackable, kind):
            yield trackable
        waiting += trackable._trackable_children().values()


def _training(model: Any) -> dict[str, Any]:
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

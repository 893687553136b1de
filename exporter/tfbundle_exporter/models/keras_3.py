"""A Keras 3 model, read off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_keras, import_tensorflow
from .call_arguments import Arguments, one_argument
from .keras_view import KerasView


def view_keras_3(model: Any) -> KerasView:
    """Read off a Keras 3 model.

    Raises:
        ExportError: An input is sparse or ragged, or Keras runs on another backend.
    """
    keras = import_keras()
    symbols = list(getattr(model, "inputs", None) or ())
    for symbol in symbols:
        if getattr(symbol, "sparse", False) or getattr(symbol, "ragged", False):
            # Keras 3 would export it as a plain dense tensor and say nothing.
            raise ExportError(
                f"model {model.name!r}: input {symbol.name!r} is sparse or ragged; only dense tensors can be served"
            )
    # A Sequential has no structure of inputs; it takes one tensor.
    is_sequential = isinstance(model, keras.Sequential)
    return KerasView(
        model=model,
        family="keras",
        library_version=keras.__version__,
        inputs={_layer_of(symbol): TensorSpec(_dtype(symbol.dtype), tuple(symbol.shape)) for symbol in symbols},
        input_form=None if not symbols else symbols[0] if is_sequential else model.input,
        output=None if not symbols else _outputs(model) if is_sequential else model.output,
        layer_of=_layer_of,
        is_sequential=is_sequential,
        guesses_dtype=is_sequential and bool(symbols) and adds_its_input(model) and not model.layers[0].autocast,
        was_called=bool(symbols) or bool(getattr(model, "_called", False)),
        recorded=None if symbols else _recorded(model),
        floats=_dtype(model.variable_dtype),
        variables=tuple(variable.value for variable in model.variables),
        # A Sequential puts its own name in front, which comes from a counter where the user gave none.
        weights=tuple((weight.path.removeprefix(f"{model.name}/"), weight.value) for weight in model.weights),
        beside=(keras.optimizers.Optimizer, keras.metrics.Metric),
        call=lambda *args, **named: model(*args, training=False, **named),
    )


def _layer_of(symbol: Any) -> str:
    # A KerasTensor's own name comes from a counter that runs on through the process; the layer's name stays.
    return str(symbol._keras_history.operation.name)


def adds_its_input(model: Any) -> bool:
    """Tell whether a Sequential was written without an Input, and made one of what it was called on.

    Only a model that was built here still tells; in a file the two look alike.
    """
    given = model._layers[0]._auto_config.config
    return given.get("shape") is None and given.get("sparse") is None and given.get("dtype") is not None


def _outputs(model: Any) -> Any:
    return model.outputs[0] if len(model.outputs) == 1 else list(model.outputs)


def _dtype(name: str) -> DType:
    return dtypes.by_number(import_tensorflow().as_dtype(name).as_datatype_enum)


def _recorded(model: Any) -> Arguments | None:
    """Read the shapes of the first call, which is all that Keras 3 keeps of it: dtypes are taken to be floats.

    None where there was more than one argument, of which it keeps nothing.
    """
    shapes = getattr(model, "_build_shapes_dict", None)
    if not shapes or len(shapes) != 1:
        return None
    floats = _dtype(model.variable_dtype)

    def spec(shape: Any) -> Any:
        if isinstance(shape, Mapping):
            return {key: spec(part) for key, part in shape.items()}
        if any(isinstance(part, (Mapping, list, tuple)) for part in shape):
            return [spec(part) for part in shape]
        return TensorSpec(floats, (None, *shape[1:]))

    return one_argument(model.call, spec(next(iter(shapes.values()))))

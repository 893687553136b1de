"""A tf_keras model, which is Keras 2, read off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DOUBLE, FLOAT, DType
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_tensorflow, import_tf_keras
from .call_arguments import Arguments, one_argument
from .keras_view import KerasView
from .structure import leaves, pack


def view_keras_2(model: Any) -> KerasView:
    """Read off a tf_keras model.

    Raises:
        ExportError: An input is sparse or ragged.
    """
    tf = import_tensorflow()
    tf_keras = import_tf_keras()
    symbols = list(model.inputs or ())
    for symbol in symbols:
        if not isinstance(symbol.type_spec, tf.TensorSpec):
            raise _not_dense(model, _layer_of(symbol))
    is_sequential = isinstance(model, tf_keras.Sequential)
    legacy = getattr(tf_keras.optimizers, "legacy", tf_keras.optimizers)
    return KerasView(
        model=model,
        family="tf_keras",
        library_version=tf_keras.__version__,
        inputs={
            name: TensorSpec(_input_dtype(model, symbol, sequential=is_sequential), tuple(symbol.shape.as_list()))
            for name, symbol in zip(model.input_names or (), symbols, strict=False)
        },
        input_form=model.input if symbols else None,
        output=model.output if symbols else None,
        layer_of=_layer_of,
        is_sequential=is_sequential,
        guesses_dtype=is_sequential and bool(symbols) and bool(model.layers) and _guesses_dtype(model),
        was_called=bool(symbols) or model.save_spec() is not None,
        recorded=None if symbols else _recorded(model),
        floats=_floats(model),
        # A vocabulary counts as a variable and a weight there; it is a look-up table.
        variables=_only_variables(model.variables) if model.built or symbols else (),
        weights=tuple((weight.name.removesuffix(":0"), weight) for weight in _only_variables(model.weights))
        if model.built or symbols
        else (),
        beside=(tf_keras.optimizers.Optimizer, legacy.Optimizer, tf_keras.metrics.Metric),
        call=_caller(model),
    )


def _layer_of(symbol: Any) -> str:
    return str(symbol._keras_history.layer.name)


def _only_variables(found: Any) -> tuple[Any, ...]:
    kind = import_tensorflow().Variable
    return tuple(each for each in found if isinstance(each, kind))


def _dtype(dtype: Any) -> DType:
    return dtypes.by_number(import_tensorflow().as_dtype(dtype).as_datatype_enum)


def _input_dtype(model: Any, symbol: Any, *, sequential: bool) -> DType:
    found = _dtype(symbol.dtype)
    # numpy's own float64, with which a Sequential without Input happened to be called first, is not what it takes.
    return _floats(model) if found is DOUBLE and sequential and not model._has_explicit_input_shape else found


def _floats(model: Any) -> DType:
    """Tell what a model computes with: a Sequential's own policy says nothing of its layers'."""
    first = model.layers[0] if model.layers and isinstance(model, import_tf_keras().Sequential) else model
    found = first.variable_dtype
    return _dtype(found) if found and import_tensorflow().as_dtype(found).is_floating else FLOAT


def _guesses_dtype(model: Any) -> bool:
    first = model.layers[0]
    # An Embedding adds an input of its own to the Sequential that it begins, of floats.
    return not first._autocast and list(model.input_names) == [f"{first.name}_input"]


def _not_dense(model: Any, name: str) -> ExportError:
    return ExportError(f"model {model.name!r}: input {name!r} is sparse or ragged; only dense tensors can be served")


def _recorded(model: Any) -> Arguments | None:
    """Read what the model was first called with; None where that was more than one argument."""
    tf = import_tensorflow()
    recorded = model.save_spec()
    if recorded is None:
        return None
    (first, *_), _ = recorded
    specs = leaves(first)
    if not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        raise _not_dense(model, "inputs")
    dtypes_found = [_floats(model) if spec.dtype == tf.float64 else _dtype(spec.dtype) for spec in specs]
    ours = [TensorSpec(dtype, tuple(spec.shape.as_list())) for dtype, spec in zip(dtypes_found, specs, strict=True)]
    return one_argument(model.call, pack(first, ours))


def _caller(model: Any) -> Any:
    def call(*args: Any, **named: Any) -> Any:
        if not _has_own_code(model):
            return model(*args, training=False, **named)
        with _autograph():
            return model(*args, training=False, **named)

    return call


def _has_own_code(model: Any) -> bool:
    """Tell whether some layer's class is not Keras's own."""
    return any(not type(layer).__module__.startswith(("tf_keras.", "keras.")) for layer in model._flatten_layers())


@contextmanager
def _autograph() -> Iterator[None]:
    """Let Keras 2 translate Python's `if` and `for` in a `call` while it is traced, as its own `predict` does."""
    # tf.autograph has no public way to switch it on for what is called from code that is not translated itself.
    from tensorflow.python.autograph.core import ag_ctx, converter

    options = converter.ConversionOptions(recursive=True)
    with ag_ctx.ControlStatusCtx(status=ag_ctx.Status.ENABLED, options=options):
        yield

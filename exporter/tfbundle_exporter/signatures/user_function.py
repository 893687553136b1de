"""A signature of the user's own: a tf.function over the model's variables.

@tf.function(input_signature=[tf.TensorSpec((None, 64), name="pixels")])
def embed(pixels):
    return {"embedding": encoder(pixels)}

export_model(model, base_path, signatures={"embed": embed})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..models.source_model import SourceModel
from ..models.trackables import refuse_untracked
from ..reasons import reason_of
from ..runtime import import_tensorflow
from .choice import join_inputs
from .endpoint import Endpoint
from .names import check_legal

_EXPECTED = (
    "expected a tf.function with input_signature=, a concrete function, or (function, specs) with a list of "
    "tf.TensorSpec or {name: tf.TensorSpec}"
)


def user_endpoint(signature: str, function: Any, *, main: Endpoint, model: SourceModel) -> Endpoint:
    """Make a signature of a user's function.

    Inputs are called like its arguments, or like their specs where these have names; outputs like the keys of the
    dict that it returns, or output_0, output_1, ... as tf.saved_model.save calls them.

    Args:
        signature: The signature's name.
        function: A tf.function with an input_signature, a concrete function, or a function and its specs.
        main: The main signature, whose reference inputs are used where the function takes some of its inputs.
        model: The source, to which the function's variables and tables must belong.

    Raises:
        ExportError: It cannot be traced, takes or gives something other than dense tensors, or uses state that the
            model does not hold.
    """
    tf = import_tensorflow()
    concrete = _trace(signature, function)
    refuse_untracked(f"signature {signature!r}: its function", concrete, model.variables, model.resources)
    positional, named = concrete.structured_input_signature
    specs = [*positional, *named.values()]
    if not specs or not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        raise ExportError(f"signature {signature!r}: a function must take dense tensors, each as one argument")
    names = [spec.name for spec in specs]
    inputs = join_inputs(
        signature,
        (
            (check_legal(f"signature {signature!r}: an input", spec.name, is_input=True), _describe(spec))
            for spec in specs
        ),
    )
    outputs = tuple(_name_outputs(signature, concrete.structured_outputs))

    def call(tensors: Mapping[str, Any]) -> dict[str, Any]:
        ordered = [tensors[name] for name in names]
        keywords = dict(zip(named, ordered[len(positional) :], strict=True))
        return _name_outputs(signature, concrete(*ordered[: len(positional)], **keywords))

    is_part = all(name in main.inputs and _is_like(main.inputs[name], spec) for name, spec in inputs.items())
    return Endpoint(
        signature=signature,
        inputs=inputs,
        outputs=outputs,
        function=call,
        examples=(lambda arrays: {name: arrays[name] for name in inputs}) if is_part else None,
        around=main.signature if is_part else "",
    )


def _trace(signature: str, function: Any) -> Any:
    tf = import_tensorflow()
    if hasattr(function, "structured_input_signature"):
        return function
    specs: Any = None
    if isinstance(function, tuple) and len(function) == 2:
        function, specs = function
    is_tf_function = hasattr(function, "get_concrete_function")
    if not callable(function) or not (
        isinstance(specs, (Sequence, Mapping))
        if specs is not None
        else is_tf_function and getattr(function, "input_signature", None) is not None
    ):
        raise ExportError(f"signature {signature!r}: {_EXPECTED}; got {function!r:.80}")
    traceable = function if is_tf_function else tf.function(function, autograph=False)
    try:
        if isinstance(specs, Mapping):
            return traceable.get_concrete_function(
                **{name: tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()}
            )
        return traceable.get_concrete_function(*(specs or ()))
    except Exception as error:  # the function is the user's: it may raise anything
        raise ExportError(
            f"signature {signature!r}: the function cannot be traced: {type(error).__name__}: {reason_of(error)}"
        ) from error


def _describe(spec: Any) -> TensorSpec:
    shape = None if spec.shape.rank is None else tuple(spec.shape.as_list())
    return TensorSpec(dtypes.by_number(spec.dtype.as_datatype_enum), shape)


def _is_like(ours: TensorSpec, spec: TensorSpec) -> bool:
    if ours.dtype is not spec.dtype or ours.shape is None:
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == len(ours.shape) and all(
        size in (None, own) for size, own in zip(spec.shape, ours.shape, strict=True)
    )


def _name_outputs(signature: str, results: Any) -> dict[str, Any]:
    return dict(_named_outputs(signature, results))


def _named_outputs(signature: str, results: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(results, Mapping):
        several = results if isinstance(results, (list, tuple)) else [results]
        results = {f"output_{place}": tensor for place, tensor in enumerate(several)}
    if not results:
        raise ExportError(f"signature {signature!r}: its function returns nothing")
    for name in sorted(results):
        if not hasattr(results[name], "dtype"):
            raise ExportError(
                f"signature {signature!r}: its function returns a {type(results[name]).__name__} as {name!r}; expected "
                "one tensor, several, or {name: tensor}"
            )
        yield check_legal(f"signature {signature!r}: an output", name), results[name]

"""A tf.Module of the user's own: its tf.functions become calls, `__call__` the main one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..reasons import reason_of
from ..runtime import import_tensorflow
from .batch_size import with_batch
from .call_arguments import match_examples, of_examples
from .concrete_call import call_of, name_inputs
from .source_model import SourceCall, SourceModel
from .trackables import find_resources, find_variables, refuse_untracked

#: Where a module has several functions, the first of these is the main one.
_MAIN = ("__call__", "serving_default", "serve", "predict", "call")


def is_module(live: object) -> bool:
    """Tell whether an object is a tf.Module, without importing TensorFlow."""
    tf = sys.modules.get("tensorflow")
    return tf is not None and hasattr(tf, "Module") and isinstance(live, tf.Module)


def adapt_module(module: Any, *, examples: Any = None) -> SourceModel:
    """See a tf.Module as the exporter does.

    A tf.function with an input_signature, or one that was called with one kind of inputs, says itself what it takes.
    `__call__` may do without either: it is traced on the example inputs.

    Args:
        module: The module.
        examples: Example inputs for `__call__`.

    Raises:
        ExportError: No function says what it takes, none is the main one, or one uses a variable that is not an
            attribute of the module.
    """
    tf = import_tensorflow()
    what = f"tf.Module {_name_of(module)!r}"
    traced = dict(_traced(module))
    if "__call__" not in traced and callable(module) and (examples is not None or not traced):
        traced["__call__"] = _trace_on(what, module, examples)
    main = next((name for name in _MAIN if name in traced), None) or (next(iter(traced)) if len(traced) == 1 else None)
    if main is None:
        found = f"it has {', '.join(traced)}" if traced else "none has an input_signature"
        raise ExportError(
            f"{what} has no function to serve by default ({found}): give it a __call__, or make the one to be served "
            "a tf.function with an input_signature"
        )
    variables = find_variables(module)
    resources = find_resources(module)
    for name, (function, _) in traced.items():
        refuse_untracked(f"{what}, function {name!r},", function, variables.values(), resources)
    calls = {name: call for name, (_, call) in traced.items()}
    return SourceModel(
        name=_name_of(module),
        family="tensorflow",
        library_version=tf.__version__,
        main=calls.pop(main),
        others=calls,
        variables=tuple(variables.values()),
        resources=resources,
        weights=variables,
        live=module,
    )


def _name_of(module: Any) -> str:
    # It has none where a class's __init__ does not call that of tf.Module, which TensorFlow itself lets pass.
    return str(getattr(module, "name", type(module).__name__))


def _traced(module: Any) -> Iterator[tuple[str, tuple[Any, SourceCall]]]:
    """List the functions that say what they take, by attribute."""
    kind = import_tensorflow().types.experimental.GenericFunction
    for name in dir(type(module)) + sorted(vars(module)):
        if name.startswith("_") and name != "__call__":
            continue
        function = getattr(module, name, None) if name in vars(module) else _method(module, name)
        if not isinstance(function, kind):
            continue
        what = f"tf.Module {_name_of(module)!r}, function {name!r},"
        told = getattr(function, "input_signature", None)
        concrete = _concrete(function, told)
        if concrete is not None:
            yield name, (concrete, call_of(what, concrete, names=name_inputs(what, concrete, told)))


def _method(module: Any, name: str) -> Any:
    # A property must not be computed for being looked at.
    return None if isinstance(getattr(type(module), name, None), property) else getattr(module, name, None)


def _concrete(function: Any, told: Any) -> Any:
    if told is not None:
        return function.get_concrete_function()
    known: list[Any] = getattr(function, "_list_all_concrete_functions", list)()
    return known[0] if len(known) == 1 else None


def _trace_on(what: str, module: Any, examples: Any) -> tuple[Any, SourceCall]:
    tf = import_tensorflow()
    if examples is None:
        raise ExportError(
            f"{what} does not say what it takes: make __call__ a tf.function with an input_signature, or give example "
            "inputs: --examples FILE (example_inputs=)"
        )
    function = type(module).__call__
    plain = getattr(function, "python_function", function)
    matched = match_examples(what, plain.__get__(module), examples)
    arguments = of_examples(what, matched)
    inputs = with_batch(arguments.inputs, None)
    specs = [tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype.number)) for spec in inputs.values()]

    def invoke(*tensors: Any) -> Any:
        args, named = arguments.bind(tensors)
        return module(*args, **named)

    try:
        concrete = tf.function(invoke).get_concrete_function(*specs)
    except Exception as error:  # whatever the user's code raises
        described = ", ".join(f"{name} {spec}" for name, spec in inputs.items())
        raise ExportError(
            f"{what} cannot be called on {described}: {type(error).__name__}: {reason_of(error)}"
        ) from error
    return concrete, call_of(what, concrete, names=tuple(inputs), arguments=arguments.named)

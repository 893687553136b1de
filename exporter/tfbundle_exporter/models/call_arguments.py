"""How a model that never said what it takes is called: example inputs are given to the parameters of its `call`.

    call(self, x)              an array                         input x
    call(self, x, mask=None)   the same; mask and training are Keras's own
    call(self, left, right)    {"left": ..., "right": ...}      inputs left and right
    call(self, inputs)         {"word": ..., "image": ...}      one dict, inputs word and image
    call(self, inputs)         [..., ...]                       one list, inputs inputs_0 and inputs_1

The inputs' dtypes and shapes are the examples', the first dimension being free.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DOUBLE, DType
from tfbundle_serving.apis.errors import BundleError, ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..runtime import import_tensorflow
from ..signatures.names import uniquify
from .structure import Path, flatten, leaves, pack

#: What Keras fills in itself.
_NOT_INPUTS = frozenset({"training", "mask"})
#: Enough to build a model on.
_ROWS_TO_BUILD_ON = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """Which parameters of a call get tensors, and in which structure.

    Attributes:
        structures: Parameter to its structure, in the call's order, a TensorSpec (ours) at each leaf.
    """

    structures: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """One name an input: its parameter's, or the keys under which it stands in a dict."""
        alone = len(self.structures) == 1
        return uniquify(
            [
                _name(parameter, path, alone=alone)
                for parameter, structure in self.structures.items()
                for path, _ in flatten(structure)
            ]
        )

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Name to dtype and shape, in flattened order."""
        specs = [spec for structure in self.structures.values() for spec in leaves(structure)]
        return dict(zip(self.names, specs, strict=True))

    @property
    def named(self) -> Any:
        """The structure with the inputs' names as leaves, as `SourceCall.arguments` has it."""
        packed = self._pack(self.names)
        return next(iter(packed.values())) if len(packed) == 1 else packed

    def bind(self, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Make positional and keyword arguments of one tensor an input."""
        packed = self._pack(tensors)
        first = next(iter(packed))
        # Both Kerases treat the first argument apart, and want it by position.
        return [packed.pop(first)], packed

    def _pack(self, flat: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.structures, pack(list(self.structures.values()), flat), strict=True))


def _name(parameter: str, path: Path, *, alone: bool) -> str:
    way = [str(step) for step in path]
    if alone and path and isinstance(path[0], str):
        return "_".join(way)
    return "_".join([parameter, *way])


def match_examples(what: str, call: Callable[..., Any], examples: Any) -> dict[str, Any]:
    """Give example inputs to the parameters of a call.

    Args:
        what: The model, for messages.
        call: What is called; `training`, `mask` and parameters with a default may be left out.
        examples: An array; name to array; or arrays in order.

    Returns:
        Parameter to what it gets.

    Raises:
        ExportError: They fit no reading of the parameters.
    """
    parameters = _parameters(call)
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    names = [parameter.name for parameter in parameters]
    described = f"{what} takes {', '.join(required or names) or 'no tensors'}"
    if not names:
        raise ExportError(f"{described}, so there is nothing to serve")
    if isinstance(examples, Mapping):
        if len(examples) == 1 and next(iter(examples)) == "arr_0":  # np.savez without a name
            return match_examples(what, call, next(iter(examples.values())))
        if set(required) <= set(examples) <= set(names):
            return {name: examples[name] for name in names if name in examples}
        if len(required) <= 1:
            return {names[0]: dict(examples)}
        raise ExportError(f"{described}; the example inputs name {', '.join(map(str, examples))}")
    if isinstance(examples, (list, tuple)) and examples and all(_is_array(each) for each in examples):
        if max(1, len(required)) == 1:
            return {names[0]: examples[0] if len(examples) == 1 else list(examples)}
        if len(required) <= len(examples) <= len(names):
            return dict(zip(names, examples, strict=False))
    elif len(required) <= 1:
        return {names[0]: examples}
    raise ExportError(f"{described}: give example inputs for each, as {{name: array}} or in order")


def one_argument(call: Callable[..., Any], structure: Any) -> Arguments | None:
    """Give the one thing that a call is known to take to its first parameter; None where it needs more."""
    parameters = _parameters(call)
    needs_more = sum(parameter.default is parameter.empty for parameter in parameters) > 1
    return None if needs_more or not parameters else Arguments(structures={parameters[0].name: structure})


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """List the parameters of a call that tensors can be given to."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        parameter
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind in kinds
        and parameter.name not in _NOT_INPUTS
        and not parameter.name.endswith("_mask")
        and (parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is parameter.empty)
    ]


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def of_examples(what: str, matched: Mapping[str, Any], *, floats: DType | None = None) -> Arguments:
    """Read dtypes and shapes from example inputs.

    Args:
        what: The model, for messages.
        matched: Parameter to arrays, in their structure.
        floats: What the model computes with. numpy's own float64 is read as that, since Keras casts it; integers,
            texts and other floats stay what they are.

    Raises:
        ExportError: An example is sparse, ragged, has no rows, or has a dtype that TensorFlow has not.
    """

    def spec(name: str, given: Any) -> TensorSpec:
        if type(given).__name__ in _NOT_DENSE or hasattr(given, "tocoo"):
            raise ExportError(
                f"{what}: the example input {name!r} is a {type(given).__name__}; only dense tensors can be served"
            )
        try:
            array = np.asarray(given)
            dtype = dtypes.of_numpy(array.dtype)
        except (BundleError, ValueError) as error:
            raise ExportError(f"{what}: the example input {name!r} is no array: {error}") from error
        if array.ndim == 0:
            raise ExportError(f"{what}: the example input {name!r} is a single value; its first axis must be the rows")
        return TensorSpec(floats if floats is not None and dtype is DOUBLE else dtype, (None, *array.shape[1:]))

    return Arguments(
        structures={
            parameter: pack(given, [spec(_name(parameter, path, alone=False), leaf) for path, leaf in flatten(given)])
            for parameter, given in _without_lists_of_numbers(matched).items()
        }
    )


def sequential_arguments(what: str, examples: Any, *, floats: DType | None = None) -> tuple[Arguments, dict[str, Any]]:
    """Read the example inputs of a Sequential, which takes one tensor, whatever they call it.

    Returns:
        The arguments, and what their one parameter gets.
    """
    given = next(iter(examples.values())) if isinstance(examples, Mapping) and len(examples) == 1 else examples
    if isinstance(given, (list, tuple)) and len(given) == 1 and _is_array(given[0]):
        given = given[0]
    matched = {"inputs": given}
    return of_examples(what, matched, floats=floats), matched


_NOT_DENSE = frozenset({"RaggedTensor", "SparseTensor", "RaggedTensorValue", "SparseTensorValue"})


def _without_lists_of_numbers(given: Any) -> Any:
    """Tell rows written as plain lists, which are an array, from lists of arrays, which are a structure."""
    if isinstance(given, Mapping):
        return {key: _without_lists_of_numbers(part) for key, part in given.items()}
    if isinstance(given, (list, tuple)) and not any(isinstance(part, Mapping) or _is_array(part) for part in given):
        return np.asarray(given)
    return given


def example_tensors(arguments: Arguments, matched: Mapping[str, Any]) -> list[Any]:
    """Make tensors of the first rows of matched examples, one an input, in the arguments' dtypes."""
    tf = import_tensorflow()
    arrays = [leaf for given in _without_lists_of_numbers(matched).values() for leaf in leaves(given)]
    return [
        tf.constant(np.asarray(array)[:_ROWS_TO_BUILD_ON], tf.as_dtype(spec.dtype.number))
        for array, spec in zip(arrays, arguments.inputs.values(), strict=True)
    ]

"""Nested inputs and outputs (dicts, lists, named tuples) flattened to names, in TensorFlow's own order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..signatures.names import uniquify

#: Keys and places on the way to a leaf.
Path = tuple[str | int, ...]


def flatten(structure: Any) -> list[tuple[Path, Any]]:
    """List the leaves with the way to each, in the order of tf.nest.flatten: dicts by their sorted keys."""
    if isinstance(structure, Mapping):
        parts: list[tuple[str | int, Any]] = [(str(key), structure[key]) for key in sorted(structure)]
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        parts = list(zip(structure._fields, structure, strict=True))
    elif isinstance(structure, (list, tuple)):
        parts = list(enumerate(structure))
    else:
        return [((), structure)]
    return [((key, *path), leaf) for key, part in parts for path, leaf in flatten(part)]


def leaves(structure: Any) -> list[Any]:
    """List the leaves alone."""
    return [leaf for _, leaf in flatten(structure)]


def pack(structure: Any, flat: Sequence[Any]) -> Any:
    """Put other leaves, in flattened order, into the form of a structure."""
    return _pack(structure, iter(flat))


def _pack(structure: Any, waiting: Any) -> Any:
    if isinstance(structure, Mapping):
        packed = {key: _pack(structure[key], waiting) for key in sorted(structure)}
        return {key: packed[key] for key in structure}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(_pack(part, waiting) for part in structure))
    if isinstance(structure, (list, tuple)):
        return type(structure)(_pack(part, waiting) for part in structure)
    return next(waiting)


def keys_on(path: Path) -> str:
    """Join the dict keys on a way: {"pose": {"left": [x, y]}} has pose_left twice."""
    return "_".join(key for key in path if isinstance(key, str))


def name_outputs(structure: Any, layer_of: Callable[[Any], str] | None = None) -> tuple[str, ...]:
    """Name the outputs of a call, uniquely, in flattened order.

    The keys of dicts name what is under them. Anything else goes by the layer it comes from or, where a call does not
    tell, by its place, as TensorFlow itself says it: output_0, output_1.

    Args:
        structure: What the call returns.
        layer_of: Names the layer that a leaf comes from.
    """
    found = flatten(structure)
    return uniquify(
        [
            keys_on(path) or (layer_of(leaf) if layer_of else f"output_{place}")
            for place, (path, leaf) in enumerate(found)
        ]
    )


def arrange_examples(arguments: Any, examples: Any) -> Any:
    """Bring example inputs that have the source's own structure into the form {input name: array}.

    Args:
        arguments: `SourceCall.arguments`.
        examples: As the user gave them.

    Returns:
        Name to array where the structures are the same, else the examples as they came: flat ones need no arranging.
    """
    if not isinstance(arguments, (Mapping, list, tuple)) or not isinstance(examples, (Mapping, list, tuple)):
        return examples
    names, arrays = flatten(arguments), flatten(_limit(arguments, examples))
    if [path for path, _ in names] != [path for path, _ in arrays]:
        return examples
    return {name: array.value for (_, name), (_, array) in zip(names, arrays, strict=True)}


class _Leaf:
    """An array given as nested lists of numbers, which is no structure."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _limit(form: Any, examples: Any) -> Any:
    if isinstance(form, Mapping) and isinstance(examples, Mapping):
        return {key: _limit(form.get(key), part) for key, part in examples.items()}
    if isinstance(form, (list, tuple)) and isinstance(examples, (list, tuple)) and len(form) == len(examples):
        return [_limit(inner, part) for inner, part in zip(form, examples, strict=True)]
    return _Leaf(examples)

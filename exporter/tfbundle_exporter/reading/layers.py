"""The layers of a model, as its configuration lists them; no Keras is asked, so that any file can be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

#: A shape in a configuration; None inside is a dimension of any size.
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One layer of a configuration.

    Attributes:
        name: Its name.
        class_name: Its class, without the package that it was registered under.
        config: Its settings, the layers inside it left out.
        inner: The layers inside it, where it is a model.
        output_shape: The shape of what it gives, where the configuration tells.
    """

    name: str
    class_name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inner: tuple[Node, ...] = ()
    output_shape: Shape | None = None


def read_layers(architecture: Mapping[str, Any] | None) -> tuple[Node, ...]:
    """List the layers of a model's configuration, in its order; what makes no sense is left out.

    Args:
        architecture: The JSON of model_config or config.json: {"class_name": ..., "config": ...}.
    """
    config = (architecture or {}).get("config")
    # Before Keras 2.2.3 a Sequential's configuration was the bare list of its layers.
    listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    entries = [entry for entry in listed or () if isinstance(entry, dict)]
    shapes = _shapes_between(entries, is_sequential=(architecture or {}).get("class_name") == "Sequential")
    return tuple(_node(entry, shapes) for entry in entries)


def walk(nodes: tuple[Node, ...], prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Go through layers and the layers inside them; those are named outer/inner."""
    for node in nodes:
        yield f"{prefix}{node.name}", node
        yield from walk(node.inner, f"{prefix}{node.name}/")


def _node(entry: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Node:
    inner = entry.get("config")
    config = inner if isinstance(inner, dict) else {}
    name = _name(entry)
    return Node(
        name=name,
        class_name=str(entry.get("class_name", "?")).rpartition(">")[2],
        config={key: value for key, value in config.items() if key not in ("layers", "name")},
        inner=read_layers(entry) if "layers" in config or isinstance(inner, list) else (),
        output_shape=_own_shape(entry, config) or shapes.get(name),
    )


def _name(entry: Mapping[str, Any]) -> str:
    config = entry.get("config")
    named = (config.get("name") if isinstance(config, dict) else None) or entry.get("name")
    return str(named or entry.get("class_name", "?"))


def _own_shape(entry: Mapping[str, Any], config: Mapping[str, Any]) -> Shape | None:
    """Tell the shape of an input, or of a Dense whose input is known."""
    if entry.get("class_name") == "InputLayer":
        return _shape(config.get("batch_shape") or config.get("batch_input_shape"))
    taken = _input_shape(entry)
    if entry.get("class_name") == "Dense" and taken and isinstance(config.get("units"), int):
        return (*taken[:-1], config["units"])
    return None


def _input_shape(entry: Mapping[str, Any]) -> Shape | None:
    built = entry.get("build_config")
    return _shape(built.get("input_shape")) if isinstance(built, dict) else None


def _shape(value: Any) -> Shape | None:
    if isinstance(value, list) and value and all(size is None or isinstance(size, int) for size in value):
        return tuple(value)
    return None


def _shapes_between(entries: list[dict[str, Any]], *, is_sequential: bool) -> dict[str, Shape]:
    """Find what layers give by what the next ones were built to take."""
    shapes: dict[str, Shape] = {}
    if is_sequential:
        for entry, after in pairwise(entries):
            shape = _input_shape(after)
            if shape is not None:
                shapes[_name(entry)] = shape
    for tensor in _tensors([entry.get("inbound_nodes") for entry in entries]):
        history, shape = tensor.get("keras_history"), _shape(tensor.get("shape"))
        # A layer may give several tensors; the first stands for it.
        if isinstance(history, list) and len(history) == 3 and history[2] == 0 and shape is not None:
            shapes.setdefault(str(history[0]), shape)
    return shapes


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    """Find Keras 3's descriptions of the tensors that go from layer to layer."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if node.get("class_name") == "__keras_tensor__" and isinstance(node.get("config"), dict):
                yield node["config"]
            else:
                waiting += node.values()

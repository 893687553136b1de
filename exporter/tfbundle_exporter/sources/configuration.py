"""Walking a model's configuration, whichever Keras wrote it: nodes of class_name and config, nested anyhow."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any


def walk(architecture: Any) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Give every node that has a class, from the outside in, with the name of the layer that it belongs to.

    A configuration may be nested as deeply as it likes; nothing here is recursive.
    """
    waiting: list[tuple[Any, str]] = [(architecture, "")]
    while waiting:
        node, layer = waiting.pop()
        if isinstance(node, (list, tuple)):
            waiting += [(item, layer) for item in reversed(node)]
        elif isinstance(node, Mapping):
            if isinstance(node.get("class_name"), str):
                config = node.get("config")
                name = config.get("name") if isinstance(config, Mapping) else None
                layer = name if isinstance(name, str) else layer
                yield node, layer
            waiting += [(item, layer) for item in reversed(list(node.values()))]


def mentioned_names(architecture: Mapping[str, Any]) -> frozenset[str]:
    """Give the names of all classes, plain and registered ("package>Name")."""
    names = (node.get(key) for node, _ in walk(architecture) for key in ("class_name", "registered_name"))
    return frozenset(name for name in names if isinstance(name, str))


def users_of(architecture: Mapping[str, Any], name: str) -> list[str]:
    """Name the layers that are of a class, or that have a function of that name in their configuration."""
    found = []
    for node, layer in walk(architecture):
        config = node.get("config")
        values = config.values() if isinstance(config, Mapping) else [config]
        if name in (node["class_name"], node.get("registered_name")) or name in [v for v in values if type(v) is str]:
            found.append(f"layer {layer!r}" if layer else "the model")
    return list(dict.fromkeys(found))


def without_training(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration and leave out how its models were compiled: a loss of the user's own must not matter."""
    copied = copy.deepcopy(dict(architecture))
    for node, _ in walk(copied):
        if isinstance(node, dict):
            node.pop("compile_config", None)
    return copied


def has_functions(architecture: Mapping[str, Any] | None) -> bool:
    """Tell whether a configuration names functions by objects of their own, as late Keras 2 does."""
    return any(_is_function(node) for node, _ in walk(architecture))


def with_plain_functions(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration and name its functions as early Keras 2 did, by their bare names.

    tf_keras writes a function of the user's own as {"class_name": "function", "config": "capped", ...} and then finds
    it in a .keras only, not in an .h5; it finds a bare name in both.
    """
    copied = copy.deepcopy(dict(architecture))
    waiting: list[Any] = [copied]
    while waiting:
        node = waiting.pop()
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(value, dict) and _is_function(value):
                node[key] = value["config"]
            elif isinstance(value, (dict, list)):
                waiting.append(value)
    return copied


def _is_function(node: Mapping[str, Any]) -> bool:
    return node.get("class_name") == "function" and isinstance(node.get("config"), str)

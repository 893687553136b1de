"""Which layers two configurations differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .layers import Node, walk

#: How an object was serialized, not what it is; names and shapes that layers are told of elsewhere.
_NO_SETTING = {"shared_object_id", "build_config", "build_input_shape", "name", "module", "registered_name"}


def compare_layers(old: tuple[Node, ...], new: tuple[Node, ...]) -> tuple[str, ...]:
    """Say how the layers of two models differ, one change a line; layers go by their names."""
    before, after = dict(walk(old)), dict(walk(new))
    return (
        *(f"layer {name} ({node.class_name}) was removed" for name, node in before.items() if name not in after),
        *(f"layer {name} ({node.class_name}) was added" for name, node in after.items() if name not in before),
        *(line for name in before if name in after for line in _compare(name, before[name], after[name])),
    )


def _compare(name: str, old: Node, new: Node) -> Iterator[str]:
    if old.class_name != new.class_name:
        yield f"layer {name} is a {new.class_name}, was a {old.class_name}"
        return
    was, now = (dict(_settings(node.config)) for node in (old, new))
    for key in sorted(was.keys() | now.keys()):
        if was.get(key) != now.get(key):
            yield f"layer {name}: {key} is {now.get(key)!r:.80}, was {was.get(key)!r:.80}"


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Take a configuration apart: kernel_initializer.class_name, kernel_initializer.seed; what is null is not there."""
    for key, value in config.items():
        plain = _unwrap(value)
        if key in _NO_SETTING or plain is None:
            continue
        # "config" alone says nothing to a person.
        path = prefix.removesuffix(".") if key == "config" and prefix else f"{prefix}{key}"
        if isinstance(plain, Mapping):
            yield from _settings(plain, f"{path}.")
        else:
            yield path, plain


def _unwrap(value: Any) -> Any:
    """Give a dtype policy as the dtype's name and a tuple as a list, as older files write them."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "DTypePolicy" and isinstance(value.get("config"), Mapping):
            return value["config"].get("name")
        if value.get("class_name") == "__tuple__":
            return _unwrap(value.get("items"))
        return value
    return [_unwrap(each) for each in value] if isinstance(value, list) else value

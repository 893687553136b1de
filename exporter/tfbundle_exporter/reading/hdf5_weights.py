"""The weights in Keras's HDF5 files, found by h5py alone.

    model_weights/dense/dense/kernel:0     full .h5 of either Keras, and Keras 2's weights (there without model_weights)
    layers/dense_1/vars/0                  model.weights.h5 in a .keras, and .weights.h5

The latter names layers by their class and counts them; Keras 3 notes the layer's own name beside the values, tf_keras
does not, so that there the architecture is counted through in the same way. Links, which may lead to other files of
this machine, are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from .layers import Node
from .stored_weights import SEED, StoredWeight

#: Groups that hold lists of layers, and are no layers themselves; the last is late Keras 2's, which wrote "\" for "/".
_LISTS = {"layers", "_layer_checkpoint_dependencies"}
#: Parts of a file that belong to the training.
_TRAINING = {"optimizer", "optimizer_weights", "metrics", "compile_metrics", "loss_tracker"}

#: Names of a layer's values by its class, where they are that many; files hold them by number.
_VALUE_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(
        (
            *("dense", "conv1d", "conv2d", "conv3d", "conv1d_transpose", "conv2d_transpose", "conv3d_transpose"),
            "einsum_dense",
        ),
        (("kernel",), ("kernel", "bias")),
    ),
    "cell": (("kernel", "recurrent_kernel"), ("kernel", "recurrent_kernel", "bias")),
    "embedding": (("embeddings",),),
    "batch_normalization": (("gamma", "beta", "moving_mean", "moving_variance"),),
    "layer_normalization": (("gamma", "beta"),),
    "group_normalization": (("gamma", "beta"),),
    "p_re_lu": (("alpha",),),
}


def has_optimizer_state(file: Any) -> bool:
    """Tell whether an open file holds what an optimizer needs to go on."""
    if _member(file, "optimizer_weights") is not None:
        return True
    values = _member(file, "optimizer", "vars")
    return values is not None and len(values) > 0


def weights_of_hdf5(file: Any, nodes: tuple[Node, ...] = ()) -> dict[str, StoredWeight]:
    """Find the weights in an open HDF5 file.

    Args:
        file: The open file.
        nodes: The layers of its architecture, where it is known.

    Returns:
        Name ("dense/kernel") to weight, in the layers' order as far as it is known.

    Raises:
        KeyError, OSError, RuntimeError, ValueError: The file is damaged, as h5py puts it.
    """
    root = file if _member(file, "model_weights") is None else file["model_weights"]
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return dict(_by_layer_names(root))
    return dict(_by_number(root, nodes))


def _member(group: Any, *path: str) -> Any:
    """Go down to a group or dataset that lies in this very file; None where there is none."""
    import h5py

    for name in path:
        if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            return None
        group = group[name]
    if isinstance(group, h5py.Dataset) and (group.external or group.is_virtual):
        return None
    return group


def _by_layer_names(root: Any) -> Iterator[tuple[str, StoredWeight]]:
    for layer in [*_texts(root, "layer_names"), "top_level_model_weights"]:
        group = _member(root, *layer.split("/"))
        for name in _texts(group, "weight_names") if group is not None else ():
            dataset = _member(group, *name.split("/"))
            if dataset is not None:
                shown = name.removesuffix(":0")
                yield (shown if "/" in shown else f"{layer}/{shown}"), _stored(dataset, layer)


def _texts(group: Any, attribute: str) -> list[str]:
    """Read a list of names; a long one is split over attributes that end in 0, 1, 2 ..."""
    parts = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{attribute}{len(parts)}"])
    texts = [each for part in parts for each in np.asarray(part).ravel().tolist()]
    return [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in texts]


def _by_number(root: Any, nodes: tuple[Node, ...]) -> Iterator[tuple[str, StoredWeight]]:
    groups = {
        path: values
        for path, values in _values(root)
        if not path or (path[0] not in _TRAINING and not path[-1].startswith(SEED))
    }
    names = dict(_names_of_groups(root)) or dict(_names_of_nodes(nodes))
    shown = {path: _shown(path, names) for path in groups}
    order = {node.name: place for place, node in enumerate(nodes)}
    for path in sorted(groups, key=lambda path: (order.get((*shown[path], "")[0], len(order)), path)):
        kinds = _VALUE_NAMES.get(re.sub(r"_\d+$", "", path[-1]) if path else "", ())
        called = next((kind for kind in kinds if len(kind) == len(groups[path])), None)
        for place, number in enumerate(sorted(groups[path])):
            name = "/".join([*shown[path], called[place] if called else str(number)])
            yield name, _stored(groups[path][number], (*shown[path], "")[0])


def _shown(path: tuple[str, ...], names: dict[tuple[str, ...], str]) -> list[str]:
    """Turn layers/dense_1 into the layer's own name."""
    return [names.get(path[: end + 1], part) for end, part in enumerate(path) if part not in _LISTS]


def _values(root: Any) -> Iterator[tuple[tuple[str, ...], dict[int, Any]]]:
    """Find the numbered values of each object in the tree."""
    for path, group in _groups(root):
        if path and path[-1] == "vars":
            found = {int(name): _member(group, name) for name in group if name.isdigit()}
            values = {number: member for number, member in found.items() if hasattr(member, "shape")}
            if values:
                yield path[:-1], values


def _names_of_groups(root: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find the names that Keras 3 notes beside the values; the model's own is left out."""
    for path, group in _groups(root):
        if len(path) > 1 and path[-1] == "vars" and "name" in group.attrs:
            yield path[:-1], str(group.attrs["name"])


def _groups(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Go through all groups of a file, each once: hard links may run in circles."""
    import h5py

    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    seen = set()
    while waiting:
        path, group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        yield path, group
        for name in group:
            member = _member(group, name)
            if isinstance(member, h5py.Group):
                waiting.append(((*path, *name.split("\\")), member))


def _names_of_nodes(nodes: tuple[Node, ...], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Count layers by class as Keras does when it saves: dense, dense_1, dense_2."""
    seen: dict[str, int] = {}
    for node in nodes:
        stem = _snake(node.class_name)
        count = seen[stem] = seen.get(stem, -1) + 1
        name = f"{stem}_{count}" if count else stem
        for container in _LISTS:
            here = (*path, container, name)
            yield here, node.name
            yield from _names_of_nodes(node.inner, here)


def _snake(class_name: str) -> str:
    """Turn BatchNormalization into batch_normalization and Conv2D into conv2d."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _stored(dataset: Any, layer: str) -> StoredWeight:
    is_text = dataset.dtype.kind in "OS"
    return StoredWeight(
        shape=tuple(dataset.shape),
        dtype="string" if is_text else str(dataset.dtype.name),
        layer=layer,
        numpy=lambda: np.asarray(dataset[()]),
    )

"""The HDF5 layout of weights in Keras 1 and 2, and in every full .h5 model: a group a layer, its weights in order.

    /                 layer_names = [conv2d, dense]   keras_version   backend        (a full model: in /model_weights)
    /dense            weight_names = [dense/kernel:0, dense/bias:0]
    /dense/dense/kernel:0

Names and shapes are read here, and no weight.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from .mismatch import Shape

_OWN_WEIGHTS = "top_level_model_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """A layer's group in the file.

    Attributes:
        name: The layer's name.
        group: Path of the group.
        weights: Name and shape of each weight, in order.
    """

    name: str
    group: str
    weights: tuple[tuple[str, Shape], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayers:
    """All that a file holds.

    Attributes:
        layers: Those that have weights, in order.
        own: What belongs to the model and to none of its layers.
        keras_version: As recorded; "" where it is not.
        backend: As recorded; "" where it is not.
    """

    layers: tuple[StoredLayer, ...]
    own: StoredLayer
    keras_version: str
    backend: str

    @property
    def needs_conversion(self) -> bool:
        """Whether arrays lie in it otherwise than they do today: in Keras 1, and under Theano."""
        return not self.keras_version or self.keras_version.startswith("1") or self.backend not in ("", "tensorflow")

    @property
    def is_all_cudnn(self) -> bool:
        """Whether every recurrent layer is a cuDNN one, whose recurrent activation is always sigmoid."""
        recurrent = [
            layer for layer in self.layers if any(leaf_of(name) == "recurrent_kernel" for name, _ in layer.weights)
        ]
        return bool(recurrent) and all(is_cudnn(layer) for layer in recurrent)


def read_layers(path: Path) -> StoredLayers:
    """Read names and shapes; no weight is read.

    Raises:
        ExportError: The file is damaged.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "layer_names" not in _list_names(file) and "model_weights" in file else file
            layers = [_read_layer(root, name) for name in _read_list(root, "layer_names")]
            own = (
                _read_layer(root, _OWN_WEIGHTS) if _OWN_WEIGHTS in root else StoredLayer(name="", group="", weights=())
            )
            return StoredLayers(
                layers=tuple(layer for layer in layers if layer.weights),
                own=own,
                keras_version=_text(root.attrs.get("keras_version", "")),
                backend=_text(root.attrs.get("backend", "")),
            )
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path} is damaged: its weights cannot be read ({error})") from error


def leaf_of(name: str) -> str:
    """Give the last part of a weight's name, without its counters: "kernel" of "lstm/kernel_1:0"."""
    return re.sub(r"(_\d+)?(:\d+)?$", "", name.rsplit("/", 1)[-1])


def is_cudnn(stored: StoredLayer) -> bool:
    """Tell a cuDNN layer by its biases: two sets in one row, where a plain layer has one set or two rows."""
    kernels, biases = (
        [shape for name, shape in stored.weights if leaf_of(name) == leaf] for leaf in ("recurrent_kernel", "bias")
    )
    pairs = list(zip(kernels, biases, strict=False))
    return bool(pairs) and all(len(bias) == 1 and bias[0] == 2 * kernel[-1] for kernel, bias in pairs)


def _read_layer(root: Any, name: str) -> StoredLayer:
    group = root[name]
    names = _read_list(group, "weight_names")
    weights = tuple((weight, tuple(int(size) for size in group[weight].shape)) for weight in names)
    return StoredLayer(name=name, group=str(group.name), weights=weights)


def _list_names(group: Any) -> set[str]:
    """Give names of the lists among the attributes; a long one is cut into several: layer_names0, layer_names1."""
    return {re.sub(r"\d+$", "", name) for name in group.attrs}


def _read_list(group: Any, name: str) -> list[str]:
    if name in group.attrs:
        return [_text(item) for item in group.attrs[name]]
    parts = itertools.takewhile(group.attrs.__contains__, (f"{name}{number}" for number in itertools.count()))
    return [_text(item) for part in parts for item in group.attrs[part]]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

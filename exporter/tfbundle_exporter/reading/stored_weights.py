"""Weights as they lie in files, under the names that people know, each read when it is asked for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.wire import as_text, as_view, fields, view

from ..sources.tensor_bundle import Bundle

#: Where a checkpoint keeps the objects that it was saved from.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
#: Values that belong to the training, by how their keys begin or what is in them.
_TRAINING_STARTS = ("keras_api/", "save_counter", "loss_tracker/", "compiled_metrics/")
_SLOT = "/.OPTIMIZER_SLOT/"
#: What an optimizer is called in a model.
_OPTIMIZER = re.compile(r"(?:.*/)?_?optimizer(?=/)")
#: An optimizer's count of steps, which tells one of any other name: tf.train.Checkpoint(net=model, opt=optimizer).
_STEPS = re.compile(rf"(.+)/(?:_iterations|iter){re.escape(_VALUE)}")
#: Where Keras 3's optimizers hold the model's own variables; this is then the shortest way to them, and the only one.
_TRAINED = "/_trainable_variables/"
#: The state of Keras 3's random layers, which is drawn anew in each process and counts as no weight there, either.
SEED = "seed_generator"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeight:
    """A weight that lies in a file.

    Attributes:
        shape: Its shape.
        dtype: Its numpy dtype's name, "string" for text.
        layer: Name of the outermost layer that it belongs to, where the file tells.
        numpy: Gives its values, as a tf.Variable does; the file must still be open.
    """

    shape: tuple[int, ...]
    dtype: str
    layer: str = ""
    numpy: Callable[[], NDArray[Any]]

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


def weights_of_bundle(bundle: Bundle) -> dict[str, StoredWeight]:
    """Find the weights in a checkpoint, sorted by name; what belongs to the training alone is left out, and seeds.

    A variable's own name ("dense/kernel") is taken where the checkpoint has it and it is the only one of that name,
    the key ("layer_with_weights-0/kernel") elsewhere. What is stored twice, as Keras's export does, is taken once.
    """
    names = _own_names(bundle)
    found = _without_twins(bundle, _names_of_weights(bundle, names))
    taken = Counter(found.values())
    weights = {}
    for key, name in found.items():
        entry = bundle.entries[key]
        weights[name if taken[name] == 1 else key.removesuffix(_VALUE)] = StoredWeight(
            shape=entry.shape,
            dtype=entry.dtype.name if entry.dtype.is_string or not entry.dtype.numpy_name else entry.dtype.numpy_name,
            numpy=partial(bundle.read, key),
        )
    return dict(sorted(weights.items()))


def _names_of_weights(bundle: Bundle, names: Mapping[str, str]) -> dict[str, str]:
    """Give key to name for all but what belongs to the training."""
    optimizers = _optimizers(bundle)
    return {
        key: name
        for key in bundle.entries
        if key != _OBJECT_GRAPH
        and not key.startswith(_TRAINING_STARTS)
        and _SLOT not in key
        and not any(key.startswith(f"{each}/") and not key.startswith(each + _TRAINED) for each in optimizers)
        for name in [names.get(key) or key.removesuffix(_VALUE)]
        if SEED not in name
    }


def _optimizers(bundle: Bundle) -> set[str]:
    """Find the optimizers in a checkpoint, by the paths to them."""
    found = (pattern.match(key) for key in bundle.entries for pattern in (_OPTIMIZER, _STEPS))
    return {match.group(match.lastindex or 0) for match in found if match is not None}


def _without_twins(bundle: Bundle, found: Mapping[str, str]) -> dict[str, str]:
    """Leave out what another list of variables holds already, under the same name and to the bit."""
    first: dict[tuple[object, ...], str] = {}
    kept = {}
    for key, name in found.items():
        entry = bundle.entries[key]
        owner = key.partition("/")[0]
        if first.setdefault((name, entry.shape, entry.dtype.number, entry.checksum), owner) == owner:
            kept[key] = name
    return kept


def has_optimizer_state(bundle: Bundle) -> bool:
    """Tell whether a checkpoint holds what an optimizer needs to go on."""
    return bool(_optimizers(bundle)) or any(_SLOT in key for key in bundle.entries)


def _own_names(bundle: Bundle) -> Mapping[str, str]:
    """Read key to variable name from the checkpoint's object graph; empty for TensorFlow 1, whose keys are names.

    Source: tensorflow/core/protobuf/trackable_object_graph.proto (nodes = 1, attributes = 2 in a node, full_name = 2
    and checkpoint_key = 3 in an attribute).
    """
    if _OBJECT_GRAPH not in bundle.entries:
        return {}
    names = {}
    graph = np.asarray(bundle.read(_OBJECT_GRAPH)).item()
    for number, _, node in fields(view(graph)):
        if number != 1:
            continue
        for inner, _, attribute in fields(as_view(node, "nodes")):
            if inner != 2:
                continue
            texts = {
                at: as_text(text, "attribute") for at, _, text in fields(as_view(attribute, "attributes")) if at < 4
            }
            if texts.get(2) and texts.get(3):
                names[texts[3]] = texts[2]
    return names

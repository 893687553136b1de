"""TensorFlow 2 checkpoints (save_weights, tf.train.Checkpoint) into a live model.

A checkpoint holds a graph of objects, each with named children, and the values of those that are variables. TensorFlow
walks it beside the live objects, restores where the names agree and is silent where they do not. The same walk is done
here, so that what does not fit is known, and told, before anything is restored. The values are then assigned one by
one, which leaves a live model's optimizer alone.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..runtime import import_tensorflow
from .mismatch import Mismatch, check_restored, listed, shape_of, weights_of
from .user_code import explain_failure

logger = logging.getLogger(__name__)

_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
#: Children of a model that serve its training, and seeds.
_BESIDE = frozenset(
    {
        "optimizer",
        "_optimizer",
        "keras_api",
        "_loss_tracker",
        "loss_tracker",
        "_metrics",
        "_compile_metrics",
        "compiled_metrics",
        "_compile_loss",
        "compiled_loss",
        "save_counter",
        "seed_generator",
        "_seed_generators",
        "random_generator",
        "_random_generator",
        "_dynamic_loss_scale",
    }
)
#: A model lies this deep at most below what was saved: Checkpoint(model=...), or a trainer that has one.
_MAX_DEPTH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """The model laid beside one object of the checkpoint.

    Attributes:
        path: Names that lead to that object.
        keys: Path below it to (the checkpoint's key, the live variable).
        missing: Weights of the model that it does not hold.
        left_over: Values below it that the model has no place for.
    """

    path: tuple[str, ...]
    keys: dict[str, tuple[str, Any]]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        return bool(self.keys) and not self.missing and not self.left_over


def load_checkpoint(model: Any, prefix: Path, *, origin: str) -> int:
    """Restore a checkpoint into a live model of the Keras that wrote it, all of it or nothing.

    Args:
        model: The model; it is built.
        prefix: The checkpoint.
        origin: The architecture, in messages.

    Returns:
        How many weights were restored.

    Raises:
        ExportError: It does not fit; the message lists what is missing, left over, or of another shape.
    """
    tf = import_tensorflow()
    reader = _open(tf, prefix)
    match = _choose(list(_match_all(model, _read_graph(reader, prefix))), prefix, origin)
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    # The checkpoint's own names count layers; the architecture has the names that a person gave.
    differing = [
        (
            f"{getattr(variable, 'path', variable.name).removesuffix(':0')} ({path})",
            tuple(shapes[key]),
            shape_of(variable),
        )
        for path, (key, variable) in sorted(match.keys.items())
        if tuple(shapes[key]) != shape_of(variable)
    ]
    Mismatch(missing=match.missing, left_over=match.left_over, shapes=differing).refuse(prefix, origin)
    for path, (key, variable) in match.keys.items():
        if dtypes[key] != tf.as_dtype(variable.dtype):
            raise ExportError(
                f"{prefix} does not fit {origin}: {path} is {dtypes[key].name} in the file, "
                f"{tf.as_dtype(variable.dtype).name} in the architecture"
            )
    for path, (key, variable) in match.keys.items():
        values = reader.get_tensor(key)
        variable.assign(values)
        check_restored(path, variable, values)
    if match.path:
        logger.info("the checkpoint holds the model as %s", ".".join(match.path))
    return len(match.keys)


def _open(tf: Any, prefix: Path) -> Any:
    try:
        return tf.train.load_checkpoint(str(prefix))
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ExportError(f"{prefix} is damaged or no checkpoint: {explain_failure(error)}") from error


def _read_graph(reader: Any, prefix: Path) -> Any:
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    if not reader.has_tensor(_GRAPH_KEY):
        raise ExportError(
            f"{prefix} is a checkpoint of TensorFlow 1, which maps names to values and knows no objects; "
            "load it where it was made and save the model, or its weights, from there"
        )
    graph = TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(_GRAPH_KEY))
    return graph


def _match_all(model: Any, graph: Any) -> Iterator[_Match]:
    """Lay the model beside each object that it may be, the nearest to the root first."""
    waiting: list[tuple[int, tuple[str, ...]]] = [(0, ())]
    seen = set()
    while waiting:
        node, path = waiting.pop(0)
        if node in seen or (path and path[-1] in _BESIDE):
            continue
        seen.add(node)
        yield _match(model, graph, node, path)
        if len(path) < _MAX_DEPTH:
            waiting += [(child.node_id, (*path, child.local_name)) for child in graph.nodes[node].children]


def _match(model: Any, graph: Any, start: int, where: tuple[str, ...]) -> _Match:
    keys: dict[str, tuple[str, Any]] = {}
    reached = set()
    waiting: list[tuple[Any, int, str]] = [(model, start, "")]
    while waiting:
        live, node, path = waiting.pop()
        if node in reached:
            continue
        reached.add(node)
        key = _key(graph, node)
        if key and hasattr(live, "assign"):
            keys[path] = (key, live)
        children = live._trackable_children() if hasattr(live, "_trackable_children") else {}
        for child in graph.nodes[node].children:
            if child.local_name in children and child.local_name not in _BESIDE:
                name = child.local_name
                waiting.append((children[name], child.node_id, f"{path}/{name}" if path else name))
    found = {id(variable) for _, variable in keys.values()}
    missing = tuple(
        f"{getattr(weight, 'path', weight.name)} {shape_of(weight)}"
        for weight in weights_of(model)
        if id(weight) not in found
    )
    return _Match(path=where, keys=keys, missing=missing, left_over=tuple(_left_over(graph, start, reached)))


def _left_over(graph: Any, start: int, reached: set[int]) -> Iterator[str]:
    """Name the values below an object that were not reached, but for those of the training."""
    seen = set()
    waiting = [(start, "")]
    while waiting:
        node, path = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node not in reached and _key(graph, node):
            yield path
        waiting += [
            (child.node_id, f"{path}/{child.local_name}" if path else child.local_name)
            for child in graph.nodes[node].children
            if child.local_name not in _BESIDE
        ]


def _key(graph: Any, node: int) -> str:
    return next((each.checkpoint_key for each in graph.nodes[node].attributes if each.name == _VALUE), "")


def _choose(matches: list[_Match], prefix: Path, origin: str) -> _Match:
    whole = [match for match in matches if match.is_whole]
    if len(whole) > 1:
        named = [match for match in whole if match.path in ((), ("model",))]
        if len(named) != 1:
            places = listed(".".join(match.path) or "the root" for match in whole)
            raise ExportError(
                f"{prefix} holds several models that fit {origin}: {places}; "
                "save the one to be served by itself: tf.train.Checkpoint(model=...)"
            )
        whole = named
    if whole:
        return whole[0]
    best = max(matches, key=lambda match: (len(match.keys), -len(match.left_over)))
    if best.keys:
        return best
    everything = next(iter(matches))
    told = listed(everything.left_over) or "nothing"
    raise ExportError(
        f"{prefix} restores nothing into {origin}: the checkpoint holds {told}; the architecture wants "
        f"{listed(everything.missing)}. It needs the Keras that wrote it (--keras 2 or --keras 3) and the same "
        "structure of attributes"
    )

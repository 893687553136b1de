"""Weights in the layout of Keras 1 and 2 into a live model of either Keras.

Keras itself goes by the order of the layers and looks at names no further. Names are looked at here: two layers that
changed places, or the weights of a frozen model inside a model, may fit by their shapes and be wrong.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import BundleError, ExportError

from .artefacts import Artefact, Family
from .keras2_layout import StoredLayer, StoredLayers, is_cudnn, leaf_of, read_layers
from .mismatch import Mismatch, check_restored, shape_of, variables_of, weights_of
from .user_code import explain_failure

logger = logging.getLogger(__name__)

#: Last parts of weights' names that mean the same in every Keras; others are not compared.
_MEANINGFUL = frozenset(
    {
        "kernel",
        "bias",
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
        "recurrent_kernel",
        "embeddings",
        "depthwise_kernel",
        "pointwise_kernel",
        "alpha",
        "mean",
        "variance",
        "count",
    }
)
#: Where a layer got its name by itself it may be called otherwise in another process.
_COUNTED = re.compile(r".*_\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A layer of the model, its group, and its variables in the order of the group; none if Keras has to convert it."""

    layer: Any
    stored: StoredLayer
    variables: tuple[Any, ...]


def load_keras2_weights(model: Any, family: Family, artefact: Artefact, link: Path, *, origin: str) -> int:
    """Load weights into a live model of either Keras, all of them or none.

    Args:
        model: The model; it is built.
        family: Its Keras.
        artefact: The weights.
        link: The same file under a suffix that Keras takes for HDF5.
        origin: The architecture, in messages.

    Returns:
        How many weights were restored.

    Raises:
        ExportError: They do not fit; the message lists the layers and shapes.
    """
    stored = read_layers(artefact.path)
    layers = [layer for layer in model.layers if variables_of(layer.weights)]
    if stored.needs_conversion:
        if family == "keras":
            raise ExportError(
                f"{artefact.path} is laid out as in Keras {stored.keras_version or 1} on {stored.backend or 'Theano'}, "
                "which Keras 3 does not read; give an architecture for Keras 2 (tf_keras, or tf.keras with --keras 2)"
            )
        _refuse_other_layers(stored, layers, artefact, origin)
        _load_by_keras(model, link, artefact, by_name=False)
        logger.info("converted weights of Keras %s on %s", stored.keras_version or 1, stored.backend or "unknown")
        return len(model.weights)
    pairs, by_name = _pair(stored, layers, family, artefact, origin)
    own = _own_weights(model, layers)
    _refuse_other_shapes(stored.own, own, artefact, origin)
    converted = [pair.stored.name for pair in pairs if not pair.variables]
    if converted:
        _load_by_keras(model, link, artefact, by_name=by_name)
        logger.info("converted the cuDNN weights of %s", ", ".join(converted))
    _assign(artefact.path, [*pairs, _Pair(layer=model, stored=stored.own, variables=own)])
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):  # Normalization computes from its weights, once
            layer.finalize_state()
    return sum(len(pair.stored.weights) for pair in pairs) + len(own)


def _pair(
    stored: StoredLayers, layers: Sequence[Any], family: Family, artefact: Artefact, origin: str
) -> tuple[list[_Pair], bool]:
    """Match groups and layers, by name where the names are the same, otherwise by order."""
    by_order = dict(zip(stored.layers, layers, strict=False))
    of_name = {str(layer.name): layer for layer in layers}
    if sorted(of_name) == sorted(layer.name for layer in stored.layers):
        by_name = {layer: of_name[layer.name] for layer in stored.layers}
        pairs = list(_fit_all(by_name, family))
        if len(pairs) == len(layers):
            return pairs, True
        by_order = by_name  # its mismatch is what is told
    _refuse_other_layers(stored, layers, artefact, origin)
    _refuse_swapped(stored, layers, artefact, origin)
    pairs = list(_fit_all(by_order, family))
    if len(pairs) == len(layers):
        return pairs, False
    fitting = {id(pair.layer) for pair in pairs}
    for group, layer in by_order.items():
        if id(layer) not in fitting:
            _refuse_other_shapes(group, tuple(layer.weights), artefact, origin, layer=str(layer.name))
            raise ExportError(
                f"{artefact.path} does not fit {origin}: layer {layer.name!r} holds "
                f"{[leaf_of(weight.name) for weight in layer.weights]}, the file has "
                f"{[leaf_of(name) for name, _ in group.weights]}"
            )
    raise AssertionError("every layer fits or is refused")


def _fit_all(candidates: dict[StoredLayer, Any], family: Family) -> Iterator[_Pair]:
    for stored, layer in candidates.items():
        wanted = tuple(shape for _, shape in stored.weights)
        for variables in _orders(layer):
            if tuple(map(shape_of, variables)) == wanted and _same_meaning(stored, variables):
                yield _Pair(layer=layer, stored=stored, variables=variables)
                break
        else:
            if family == "tf_keras" and is_cudnn(stored) and len(layer.weights) == len(stored.weights):
                yield _Pair(layer=layer, stored=stored, variables=())


def _orders(layer: Any) -> Iterator[tuple[Any, ...]]:
    """Give a layer's variables in every order in which they may have been saved.

    Keras saves trainable weights first. For a model inside the model that order depends on what was frozen when it was
    saved, which the architecture does not tell.
    """
    yield tuple(variables_of([*layer.trainable_weights, *layer.non_trainable_weights]))
    members = list(layer._flatten_layers())
    if len(members) == 1:
        return
    before = [member.trainable for member in members]
    try:
        for trainable in (True, False):
            for member in members:
                member.trainable = trainable
            yield tuple(variables_of([*layer.trainable_weights, *layer.non_trainable_weights]))
    finally:
        # From the outside in, since setting a layer sets those inside of it, too.
        for member, trainable in zip(members, before, strict=True):
            member.trainable = trainable


def _same_meaning(stored: StoredLayer, variables: Sequence[Any]) -> bool:
    leaves = [
        (leaf_of(name), leaf_of(str(variable.name)))
        for (name, _), variable in zip(stored.weights, variables, strict=True)
    ]
    return all(theirs == ours for theirs, ours in leaves if {theirs, ours} <= _MEANINGFUL)


def _refuse_other_layers(stored: StoredLayers, layers: Sequence[Any], artefact: Artefact, origin: str) -> None:
    if len(stored.layers) == len(layers):
        return
    ours, theirs = [str(layer.name) for layer in layers], [layer.name for layer in stored.layers]
    missing = [f"layer {name!r}" for name in ours if name not in theirs]
    left_over = [f"layer {name!r}" for name in theirs if name not in ours]
    Mismatch(missing=missing, left_over=left_over).refuse(
        f"{artefact.path} ({len(theirs)} layers with weights)", f"{origin} ({len(ours)} of them)"
    )
    raise ExportError(f"{artefact.path} holds {len(theirs)} layers with weights, {origin} has {len(ours)}")


def _refuse_swapped(stored: StoredLayers, layers: Sequence[Any], artefact: Artefact, origin: str) -> None:
    """Stop where a layer that the user named is at another place, since the order would give it another's weights."""
    ours = [str(layer.name) for layer in layers]
    for place, group in enumerate(stored.layers):
        name = group.name
        if name not in ours or ours[place] == name or _is_automatic(name, layers[ours.index(name)]):
            continue
        raise ExportError(
            f"{artefact.path} does not fit {origin}: layer {name!r} is number {place + 1} of those with weights in the "
            f"file and number {ours.index(name) + 1} in the architecture, and the others are not called the same"
        )


def _is_automatic(name: str, layer: Any) -> bool:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
    return _COUNTED.fullmatch(name) is not None or name in (snake, type(layer).__name__.lower())


def _refuse_other_shapes(
    stored: StoredLayer, variables: Sequence[Any], artefact: Artefact, origin: str, *, layer: str = ""
) -> None:
    place = f"layer {layer!r}, " if layer else ""
    ours = [(str(variable.name), shape_of(variable)) for variable in variables]
    if len(ours) != len(stored.weights):
        Mismatch(
            missing=[f"{place}{leaf_of(name)} {shape}" for name, shape in ours[len(stored.weights) :]],
            left_over=[f"{place}{leaf_of(name)} {shape}" for name, shape in stored.weights[len(ours) :]],
        ).refuse(artefact.path, origin)
    pairs = zip(stored.weights, ours, strict=True)
    shapes = [(f"{place}{leaf_of(name)}", shape, wanted) for (name, shape), (_, wanted) in pairs if shape != wanted]
    Mismatch(shapes=shapes).refuse(artefact.path, origin)


def _own_weights(model: Any, layers: Sequence[Any]) -> tuple[Any, ...]:
    """Give the weights of a subclassed model that belong to none of its layers."""
    of_layers = {id(weight) for layer in layers for weight in layer.weights}
    own = [weight for weight in weights_of(model) if id(weight) not in of_layers]
    return (*(weight for weight in own if weight.trainable), *(weight for weight in own if not weight.trainable))


def _load_by_keras(model: Any, link: Path, artefact: Artefact, *, by_name: bool) -> None:
    try:
        model.load_weights(link, by_name=by_name)
    except BundleError:
        raise
    except Exception as error:
        raise ExportError(f"{artefact.path} cannot be loaded: {explain_failure(error)}") from error


def _assign(path: Path, pairs: Sequence[_Pair]) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        for pair in pairs:
            for (name, _), variable in zip(pair.stored.weights, pair.variables, strict=False):
                values: NDArray[Any] = np.asarray(file[pair.stored.group][name])
                variable.assign(values)
                check_restored(f"{pair.stored.name}/{leaf_of(name)}", variable, values)

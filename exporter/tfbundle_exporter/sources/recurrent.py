"""Which recurrent activation weights were trained with, where their file does not say.

Up to Keras 2.2 an LSTM or GRU had a recurrent activation of hard_sigmoid unless told otherwise, since 2.3 it is
sigmoid; ConvLSTM2D kept hard_sigmoid throughout Keras 2 and has sigmoid in Keras 3. And hard_sigmoid is
clip(0.2 x + 0.5, 0, 1) in Keras 2, but relu6(x + 3) / 6 in Keras 3. The weights fit either way and the answers differ,
so nothing is guessed here.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..settings import SourceSettings
from .artefacts import Artefact, Family
from .configuration import walk

logger = logging.getLogger(__name__)

ACTIVATIONS = ("sigmoid", "hard_sigmoid")
_STATE_IT = "say which one it was trained with: --recurrent-activation sigmoid|hard_sigmoid (recurrent_activation=)"
_KEY = "recurrent_activation"

_GATED = re.compile(r"(LSTM|GRU|ConvLSTM[123]D)(Cell)?")
_CONVOLUTIONAL = re.compile(r"ConvLSTM[123]D")
#: From this version on the default is what it is today.
_SETTLED = (2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The gated part of a recurrent layer of a live model.

    Attributes:
        layer: Name of the layer it belongs to.
        cell: The cell.
        owner: That layer; the cell itself where it stands alone.
    """

    layer: str
    cell: Any
    owner: Any

    @property
    def activation(self) -> str:
        """Name of its recurrent activation."""
        return str(getattr(self.cell.recurrent_activation, "__name__", self.cell.recurrent_activation))


def check_option(reading: SourceSettings) -> None:
    """Refuse an activation that recurrent layers never had by default.

    Raises:
        ExportError: It is another one.
    """
    if reading.recurrent_activation not in ("", *ACTIVATIONS):
        raise ExportError(
            f"--recurrent-activation (recurrent_activation=) {reading.recurrent_activation!r}: "
            f"expected {' or '.join(ACTIVATIONS)}"
        )


def is_unsettled(artefact: Artefact) -> bool:
    """Tell whether weights are from a time, or may be, when the default was another."""
    if artefact.kind not in ("weights_keras2", "hdf5"):
        return False
    numbers = re.match(r"(\d+)\.(\d+)", artefact.keras_version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) < _SETTLED


def complete_text(
    config: Mapping[str, Any], family: Family, artefact: Artefact, reading: SourceSettings, *, implied: str
) -> Mapping[str, Any]:
    """Write the recurrent activation into an architecture's text wherever it does not stand there.

    Args:
        config: The configuration.
        family: The Keras that it will be built with.
        artefact: The weights.
        reading: What the user says.
        implied: What the weights themselves prove; "" for nothing.

    Returns:
        The configuration, as it was where there is nothing to complete.

    Raises:
        ExportError: It is not known, or what the user says contradicts the text.
    """
    stated = {name: node["config"][_KEY] for node, name in _gated_nodes(config) if _KEY in node["config"]}
    silent = [name for node, name in _gated_nodes(config) if _KEY not in node["config"]]
    said = reading.recurrent_activation
    for name, activation in stated.items():
        plain = activation if isinstance(activation, str) else ""
        if said and plain in ACTIVATIONS and plain != said:
            raise ExportError(
                f"layer {name!r} has the recurrent activation {plain} in the architecture; "
                f"--recurrent-activation {said} contradicts it"
            )
        _refuse_foreign_hard_sigmoid(name, plain, family, artefact)
    chosen = implied or said
    if silent and not chosen:
        if is_unsettled(artefact) or (family == "keras" and artefact.family == "tf_keras"):
            raise _not_stated(artefact, silent[0])
        return config
    if not silent:
        return config
    for name in silent:
        _refuse_foreign_hard_sigmoid(name, chosen, family, artefact)
    completed = copy.deepcopy(dict(config))
    for node, _ in _gated_nodes(completed):
        node["config"].setdefault(_KEY, chosen)
    return completed


def settle_live(model: Any, family: Family, artefact: Artefact, reading: SourceSettings, *, implied: str) -> None:
    """See to it that a model built by code has the recurrent activations that the weights were trained with.

    Args:
        model: The live model; its activations are set.
        family: Its Keras.
        artefact: The weights.
        reading: What the user says.
        implied: What the weights themselves prove; "" for nothing.

    Raises:
        ExportError: They are not known, or differ from what a full model file says of itself.
    """
    recorded = {name: node["config"].get(_KEY, "") for node, name in _gated_nodes(artefact.architecture or {})}
    for cell in gated_cells(model):
        wanted = implied or reading.recurrent_activation
        of_file = recorded.get(cell.layer, "")
        if of_file and not wanted and of_file != cell.activation:
            raise ExportError(
                f"layer {cell.layer!r}: {artefact.path} was trained with the recurrent activation {of_file}, "
                f"the architecture has {cell.activation}: set it there, or {_STATE_IT}"
            )
        if not wanted and not of_file and (is_unsettled(artefact) or _changes_meaning(cell, family, artefact)):
            raise _not_stated(artefact, cell.layer)
        _refuse_foreign_hard_sigmoid(cell.layer, wanted or cell.activation, family, artefact)
        if wanted and wanted != cell.activation:
            logger.info("layer %s: set the recurrent activation %s (was %s)", cell.layer, wanted, cell.activation)
            _set(cell, wanted, family)


def gated_cells(model: Any) -> Iterator[Cell]:
    """Find everything in a live model of either Keras that has a recurrent activation."""
    layers = list(model._flatten_layers())
    owners = {id(layer.cell): layer for layer in layers if hasattr(layer, "cell")}
    for layer in layers:
        if hasattr(layer, _KEY) and not hasattr(layer, "cell"):
            owner = owners.get(id(layer), layer)
            yield Cell(layer=str(owner.name), cell=layer, owner=owner)


def _gated_nodes(config: Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    for node, name in walk(config):
        if _GATED.fullmatch(node["class_name"].rpartition(">")[2]) and isinstance(node.get("config"), dict):
            yield node, name


def _changes_meaning(cell: Cell, family: Family, artefact: Artefact) -> bool:
    """Tell whether the default of a layer is not the one that it had in the Keras of its weights."""
    return (
        family == "keras"
        and artefact.family == "tf_keras"
        and _CONVOLUTIONAL.match(type(cell.cell).__name__) is not None
    )


def _refuse_foreign_hard_sigmoid(layer: str, activation: str, family: Family, artefact: Artefact) -> None:
    if activation == "hard_sigmoid" and family == "keras" and artefact.family == "tf_keras":
        raise ExportError(
            f"layer {layer!r}: hard_sigmoid is another function in Keras 3 than in Keras 2, which made the weights; "
            "give an architecture for Keras 2 (tf_keras, or tf.keras with --keras 2)"
        )


def _not_stated(artefact: Artefact, layer: str) -> ExportError:
    version = f"Keras {artefact.keras_version}" if artefact.keras_version else "a Keras that it does not name"
    return ExportError(
        f"{artefact.path} is from {version}, when recurrent layers had another default, "
        f"and nothing states the recurrent activation of layer {layer!r}; {_STATE_IT}"
    )


def _set(cell: Cell, activation: str, family: Family) -> None:
    if family == "keras":
        from keras import activations
    else:
        from tf_keras import activations
    cell.cell.recurrent_activation = activations.get(activation)
    if hasattr(cell.owner, "_could_use_gpu_kernel"):
        # tf_keras decides once, when a layer is made, whether the fused kernel fits; that one knows sigmoid only.
        cell.owner._could_use_gpu_kernel = False

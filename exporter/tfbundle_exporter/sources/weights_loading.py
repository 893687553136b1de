"""Weights and an architecture become a live model, or an error that says what does not fit."""

from __future__ import annotations

import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from ..settings import SourceSettings
from .architecture import OPTION, build, read_architecture
from .artefacts import Artefact, Family, Kind
from .families import FAMILY_OF_OPTION, SPOKEN, live_family
from .keras2_layout import read_layers
from .mismatch import weights_of
from .recurrent import check_option, complete_text, settle_live
from .weights_checkpoint import load_checkpoint
from .weights_keras2 import load_keras2_weights
from .weights_v3 import load_v3_weights

logger = logging.getLogger(__name__)

#: Weights of a kind that was written by one Keras and that the other reads exactly.
_SHARED: frozenset[Kind] = frozenset({"weights_keras2", "weights_v3", "hdf5"})


def load_with_architecture(
    artefact: Artefact, reading: SourceSettings, *, build_by_call: Callable[[Any], None] | None = None
) -> Any:
    """Build an architecture and load weights into it, all of them or none.

    Args:
        artefact: The weights: a weights file, a checkpoint, or a full model of which the weights alone are used.
        reading: The architecture, custom objects, the recurrent activation.
        build_by_call: Calls a model once on example inputs, for one that has no weights before.

    Returns:
        A live model of either Keras.

    Raises:
        ExportError: They do not fit, or something about them is not known that changes the answers.
        OSError: A file cannot be read.
    """
    if reading.architecture is None:
        raise ExportError(
            f"{artefact} holds weights alone; give what they belong to: {OPTION}, a JSON or YAML text, "
            "module:factory or file.py:factory"
        )
    check_option(reading)
    architecture = read_architecture(reading)
    implied = _implied_activation(artefact)
    config = architecture.config
    if config is not None and architecture.family is not None:
        _check_families(architecture.family, artefact, reading, architecture.origin)
        config = complete_text(config, architecture.family, artefact, reading, implied=implied)
    model = build(architecture, reading, config=config)
    family = live_family(model)
    assert family is not None
    if architecture.config is None:
        _check_families(family, artefact, reading, architecture.origin)
    _build_weights(model, architecture.origin, build_by_call)
    if architecture.config is None:
        settle_live(model, family, artefact, reading, implied=implied)
    count = _load(model, family, artefact, architecture.origin)
    logger.info("restored %d of %d weights of %s", count, len(weights_of(model)), architecture.origin)
    return model


def _implied_activation(artefact: Artefact) -> str:
    """Give the recurrent activation that the weights themselves prove; "" where they prove nothing."""
    if artefact.kind not in ("weights_keras2", "hdf5"):
        return ""
    return "sigmoid" if read_layers(artefact.path).is_all_cudnn else ""


def _check_families(family: Family, artefact: Artefact, reading: SourceSettings, origin: str) -> None:
    """Refuse an architecture of another Keras than was asked for, or than the weights can go into."""
    wanted = FAMILY_OF_OPTION.get(reading.keras)
    if wanted not in (None, family):
        raise ExportError(
            f"{origin} is a model of {SPOKEN[family]}, but --keras {reading.keras} was given; tf.keras follows that "
            "option, `import keras` and `import tf_keras` do not"
        )
    if artefact.family in (None, family):
        return
    assert artefact.family is not None
    if family == "keras" and artefact.kind in _SHARED:
        logger.info("the weights are of Keras 2, the architecture is of Keras 3: the layers' defaults are its own")
        return
    raise ExportError(
        f"{artefact} was written by {SPOKEN[artefact.family]}, but {origin} is a model of {SPOKEN[family]}; "
        "give the architecture in the Keras of the weights"
    )


def _build_weights(model: Any, origin: str, build_by_call: Callable[[Any], None] | None) -> None:
    """Call a model that learns its shapes from its first inputs."""
    if _has_weights(model):
        return
    if build_by_call is not None:
        build_by_call(model)
    if not _has_weights(model):
        raise ExportError(
            f"{origin} gives a model without weights, as long as it was never called; "
            "give inputs to call it on: --examples FILE (example_inputs=)"
        )


def _has_weights(model: Any) -> bool:
    try:
        return bool(model.built and model.weights)
    except ValueError:  # tf_keras: the weights have not been created
        return False


def _load(model: Any, family: Family, artefact: Artefact, origin: str) -> int:
    if artefact.kind == "checkpoint":
        return load_checkpoint(model, artefact.path, origin=origin)
    if artefact.kind in ("weights_keras2", "hdf5"):
        with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder:
            link = Path(folder, "weights.h5")
            link.symlink_to(artefact.path.resolve())
            return load_keras2_weights(model, family, artefact, link, origin=origin)
    with _weights_file(artefact) as path:
        return load_v3_weights(model, path, origin=origin)


@contextmanager
def _weights_file(artefact: Artefact) -> Iterator[Path]:
    """Give the .weights.h5 of an artefact, which a .keras model has inside of it."""
    if artefact.kind == "keras_folder":
        yield artefact.path / "model.weights.h5"
    elif artefact.kind == "keras_archive":
        with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder, zipfile.ZipFile(artefact.path) as archive:
            yield Path(archive.extract("model.weights.h5", folder))
    else:
        yield artefact.path

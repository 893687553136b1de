"""An artefact becomes a live model, with the Keras that it needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from ..settings import SourceSettings
from .architecture import is_code
from .artefacts import Artefact, Family
from .families import FAMILY_OF_OPTION
from .vocabularies import refuse_empty_vocabularies
from .weights_loading import load_with_architecture
from .weights_v3 import keras_names
from .whole_model import load_whole

logger = logging.getLogger(__name__)


def load_model(artefact: Artefact, reading: SourceSettings, *, build: Callable[[Any], None] | None = None) -> Any:
    """Load a model for inference: what its file says of the training is not restored.

    Args:
        artefact: Anything but a SavedModel; it was scanned before.
        reading: How to read it.
        build: Calls a model once on example inputs. Needed for an architecture whose weights do not exist before that.

    Returns:
        A live model of the Keras that it needs.

    Raises:
        ExportError: It cannot be loaded as it is; the message names the file, and the layer and option where it can.
        OSError: A file cannot be read.
    """
    if reading.architecture is not None or artefact.needs_architecture:
        model = load_with_architecture(artefact, reading, build_by_call=build)
    else:
        model = load_whole(artefact, reading)
    refuse_empty_vocabularies(model, artefact)
    return model


def needs_own_process(artefact: Artefact | None, reading: SourceSettings) -> dict[str, str] | None:
    """Tell whether a source is to be read in a process of its own, since code of the user's has its say.

    Args:
        artefact: The source; None for a live model.
        reading: How it is to be read.

    Returns:
        The environment that the process needs, so that `tf.keras` is the Keras of the source there; None where this
        process will do.
    """
    if not reading.modules and not is_code(reading.architecture):
        return None
    legacy = _family_for_code(artefact, reading) == "tf_keras"
    return {"TF_USE_LEGACY_KERAS": "1" if legacy else "0", "KERAS_BACKEND": "tensorflow"}


def _family_for_code(artefact: Artefact | None, reading: SourceSettings) -> Family:
    wanted = FAMILY_OF_OPTION.get(reading.keras)
    if wanted is not None:
        return wanted
    if artefact is not None and artefact.family in ("keras", "tf_keras"):
        return artefact.family
    if artefact is not None and artefact.kind == "weights_v3" and keras_names(artefact.path):
        return "keras"
    # Nothing records it: tf.keras is what it is in the process that the user started.
    return "tf_keras" if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true") else "keras"

"""The two Kerases: how a person calls them, how they are imported, which one a live model is of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..runtime import import_keras, import_tf_keras
from .artefacts import Family

FAMILIES: tuple[Family, ...] = ("keras", "tf_keras")

#: The Keras that a person means by --keras.
FAMILY_OF_OPTION: dict[str, Family] = {"2": "tf_keras", "3": "keras"}
SPOKEN: dict[Family, str] = {"keras": "Keras 3", "tf_keras": "Keras 2"}
IMPORTERS: dict[Family, Callable[[], Any]] = {"keras": import_keras, "tf_keras": import_tf_keras}


def live_family(model: object) -> Family | None:
    """Name the package that a live model belongs to, without importing one; None where it is no model."""
    for family in FAMILIES:
        module = sys.modules.get(family)
        if module is not None and isinstance(model, module.Model):
            return family
    return None

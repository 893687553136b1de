"""Look-up layers that came without their vocabulary: they would take every word for an unknown one, and say nothing."""

from __future__ import annotations

from typing import Any

from tfbundle_serving.apis.errors import ExportError

from .artefacts import Artefact

_LOOKUPS = frozenset({"TextVectorization", "StringLookup", "IntegerLookup"})


def refuse_empty_vocabularies(model: Any, artefact: Artefact) -> None:
    """Stop where a look-up layer knows no word at all.

    Raises:
        ExportError: There is one; neither weights files nor the .h5 of Keras 3 hold what `adapt` learnt.
    """
    for layer in model._flatten_layers():
        if type(layer).__name__ in _LOOKUPS and not layer.get_vocabulary(include_special_tokens=False):
            raise ExportError(
                f"layer {layer.name!r} has no vocabulary after loading {artefact}, which does not hold one; "
                "give it in the architecture (vocabulary=), or save the whole model as .keras"
            )

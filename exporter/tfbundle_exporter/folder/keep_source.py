"""assets.extra/source/: the source artefact itself, optimizer state and all, so that training can go on from a version.

    assets.extra/source/digits.h5                  a file, under its own name
    assets.extra/source/my_model/saved_model.pb    a folder, under its own name
    assets.extra/source/cp-0003.ckpt.index ...     a checkpoint's files beside each other
    assets.extra/source/model.keras                a live model, saved for the purpose
    assets.extra/source/architecture/arch.json     the architecture that weights were given with

Servers look past assets.extra, and metadata.json holds the hashes of the files in it like those of all others.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import KEPT_SOURCE

from ..models.live import family_of_model
from ..reasons import reason_of
from ..sources.artefacts import Artefact

#: Under source/: what weights were given with.
ARCHITECTURE = "architecture"
_LIVE_NAME = "model.keras"


def keep_source(artefact: Artefact, folder: Path, *, architecture: Path | None = None) -> None:
    """Copy a source artefact into a version folder in the making.

    Args:
        artefact: The source.
        folder: The staged version folder.
        architecture: The file that its architecture came from, where it came from one.

    Raises:
        OSError: The file system refused.
    """
    kept = folder / KEPT_SOURCE
    # The folder's own name is what it gets back under; "." has none.
    place = kept / (artefact.path.name or artefact.path.resolve().name) if artefact.path.is_dir() else kept
    for path in artefact.files:
        target = place / path.relative_to(artefact.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if architecture is not None:
        (kept / ARCHITECTURE).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(architecture, kept / ARCHITECTURE / architecture.name)


def keep_live(model: Any, folder: Path) -> None:
    """Save a live model into a version folder in the making, with its optimizer where it was compiled.

    Args:
        model: A Keras 3 or tf_keras model.
        folder: The staged version folder.

    Raises:
        ExportError: It is no Keras model, or Keras cannot save it.
        OSError: The file system refused.
    """
    if family_of_model(model) not in ("keras", "tf_keras"):
        raise ExportError(
            f"a {type(model).__name__} has no file form that could be kept; expected a Keras model, "
            "or leave out --keep-source (keep_source=)"
        )
    kept = folder / KEPT_SOURCE
    kept.mkdir(parents=True, exist_ok=True)
    try:
        model.save(str(kept / _LIVE_NAME))
    except OSError:
        raise
    except Exception as error:  # whatever a layer's own get_config raises
        raise ExportError(
            f"model {model.name!r} cannot be kept, since Keras cannot save it: {type(error).__name__}: "
            f"{reason_of(error)}; leave out --keep-source (keep_source=)"
        ) from error

"""Whether a destination of a push can be meant: the base path of one model, not the folder above it.

DEST                      there            push models/digits/1 DEST
backup/digits             1/ 2/            makes backup/digits/3
backup                    digits/ iris/    is refused: backup/1 would be no version of anything
backup                    nothing          makes backup/1, and says so: the model's own name is digits
"""

from __future__ import annotations

import logging

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import parse_version

from .stores import Store

logger = logging.getLogger(__name__)

#: A look into so many folders tells whether they are base paths.
_LOOKED_INTO = 10


def check_destination(base: Store, model: str) -> None:
    """Refuse a folder of models as a base path, and mention a new base path that is not called as its model is.

    Args:
        base: Where versions shall be.
        model: What the model calls itself; "" where it does not say.

    Raises:
        ExportError: It holds no version, but folders that do.
    """
    children = [name for name in base.list_children() if not name.startswith(".")]
    if any(parse_version(name) is not None for name in children):
        return
    models = [name for name in children[:_LOOKED_INTO] if _holds_versions(base.below(name))]
    if models:
        raise ExportError(
            f"{base.address} holds models ({', '.join(models)}) and no version; expected the base path of one model, "
            f"{base.address.rstrip('/')}/{model or 'MODEL'}"
        )
    if not children and model and base.address.rstrip("/").rpartition("/")[2] != model:
        logger.info(
            "%s becomes a base path, with the versions right in it; if a folder for model %s in it was meant: %s/%s",
            *(base.address, model, base.address.rstrip("/"), model),
        )


def _holds_versions(folder: Store) -> bool:
    return any(parse_version(name) is not None for name in folder.list_children())

"""A staged version folder appears under the next free number, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tfbundle_serving.apis.base_path_lock import locked, record_released
from tfbundle_serving.apis.durable import make_readable, rename_without_replacing, sync, sync_tree
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA

from .base_path import check_free, next_version


def publish(
    staged: Path, base: Path, *, version: int | None, metadata: Callable[[int], bytes] | None, may_return: bool = False
) -> int:
    """Give a staged version its number and its place.

    The bulk is brought to the disk before the lock is taken, so that exporters do not wait for each other's disks.

    Args:
        staged: The version folder in the making, on the base path's own file system.
        base: The base path.
        version: The number to take; None takes the next.
        metadata: Gives metadata.json for the number that it gets; None leaves the one that is there, or none.
        may_return: Whether the number may be one that was here before; for a version that comes from elsewhere.

    Returns:
        The number.

    Raises:
        ExportError: The number is not free.
        OSError: The file system refused; nothing appeared.
    """
    make_readable(staged)
    sync_tree(staged)
    with locked(base):
        while True:
            if version is not None:
                check_free(base, version, may_return=may_return)
            number = next_version(base) if version is None else version
            if metadata is not None:
                (staged / METADATA).write_bytes(metadata(number))
                make_readable(staged)
                sync(staged / METADATA)
                sync(staged)
            record_released(base, [number])
            try:
                rename_without_replacing(staged, base / str(number))
            except FileExistsError as error:
                # Something that does not know the lock was quicker.
                if version is not None:
                    raise ExportError(
                        f"version {number} has just appeared in {base}; nothing was overwritten"
                    ) from error
                continue
            sync(base)
            return number

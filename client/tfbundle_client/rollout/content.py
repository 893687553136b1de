"""Whether a version is what was exported, by the hashes of its metadata.json, before a server is told to load it.

A server that cannot load a version tries for minutes (--max_num_load_retries), and what it says stands in its own log.
"""

from __future__ import annotations

from collections.abc import Iterator

from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.apis.file_check import check_files
from tfbundle_serving.apis.version_folder import METADATA, list_versions, read_metadata

from .rules import Seen


def check_content(model: str, version: int, seen: Seen) -> Iterator[str]:
    """Name what is wrong with the files of a version; nothing where nobody recorded what they were.

    Args:
        model: Model name.
        version: The version.
        seen: What is seen of the model's base path.
    """
    if not seen.path or version not in (seen.versions or ()):
        return
    folder = list_versions(seen.path)[version]
    try:
        content = read_metadata(folder)
        hashes = (content or {}).get("files")
        found = check_files(folder, hashes) if isinstance(hashes, dict) else None
    except (BundleError, OSError) as error:
        yield f"version {version} of model {model} cannot be read: {error}"
        return
    if found is None:
        return
    wrong = [f"{name} is missing" for name in found.missing] + [f"{name} has changed" for name in found.changed]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        yield (
            f"version {version} of model {model} is not what was exported: {', '.join(wrong[:3])}{more} since "
            f"{folder / METADATA} was written; export or pull it again"
        )

"""Where rendered text goes: standard output, one file, or a folder with a file for each document."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tfbundle_serving.apis.durable import replace_file

from .manifest import Manifest, write_json, write_manifest, write_manifests


def write(manifests: Sequence[Manifest], output: str, *, as_json: bool) -> list[str]:
    """Write documents.

    Args:
        manifests: What.
        output: A file; or a folder, which is one that exists, or whose name ends in a slash.
        as_json: As a JSON list instead of YAML; into a file only.

    Returns:
        The paths that were written.

    Raises:
        OSError: They could not be.
    """
    folder = Path(output)
    if as_json or not (output.endswith(os.sep) or folder.is_dir()):
        return write_text(write_json(manifests) if as_json else write_manifests(manifests), output)
    folder.mkdir(parents=True, exist_ok=True)
    if "kind" not in manifests[0].body:
        return write_text(write_manifests(manifests), str(folder / "compose.yaml"))
    written = []
    for each in manifests:
        # Without the hash, or each change of a configuration would leave a file behind.
        name = each.name.rpartition("-")[0] if each.kind == "ConfigMap" else each.name
        written += write_text(write_manifest(each), str(folder / f"{each.kind.lower()}-{name}.yaml"))
    return written


def write_text(text: str, output: str) -> list[str]:
    """Write one file, whole or not at all."""
    replace_file(Path(output), text.encode())
    return [output]

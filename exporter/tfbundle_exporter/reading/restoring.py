"""`tfbundle restore`: a version's source artefact, which --keep-source put into it, is given back byte for byte."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.durable import rename_without_replacing
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import sha256_of
from tfbundle_serving.apis.version_folder import KEPT_SOURCE, METADATA, read_metadata

from ..folder.keep_source import ARCHITECTURE
from ..sources.artefacts import KIND_NAMES, Artefact
from ..sources.places import version_folder
from ..sources.sniffing import identify

#: Suffixes that mean a file of one kind or another, whoever reads them.
_FILE_SUFFIXES = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A source artefact that was given back.

    Attributes:
        path: Where it is now.
        kind: What it is.
        files: How many files.
        size: In bytes.
        architecture: The architecture that goes with it, in the version folder; None where it needs none or none was
            kept.
    """

    path: Path
    kind: str
    files: int
    size: int
    architecture: Path | None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "files": self.files,
            "size": self.size,
            "architecture": None if self.architecture is None else str(self.architecture),
        }

    def to_text(self) -> str:
        """Say it to a person."""
        said = f"restored {self.path}: {self.kind}, {self.files} file(s), {self.size / 1e6:.3g} MB, hashes as recorded"
        return said if self.architecture is None else f"{said}\nits architecture: {self.architecture}"


def restore(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Restored:
    """Give a version's source artefact back.

    Args:
        path: The version folder, or a base path and a tag ("models/digits/1.4.0").
        out: The file or folder to make; it must not exist. A file's suffix must be that of its kind.

    Raises:
        ExportError: There is no kept source, its bytes are not those that were kept, or `out` does not fit.
        OSError: The file system refused.
    """
    folder, target = version_folder(path), Path(out)
    files = _kept_files(folder)
    source = folder / KEPT_SOURCE
    inside = source / files[0].relative_to(source).parts[0]
    is_folder, is_file = inside.is_dir(), len(files) == 1 and not inside.is_dir()
    artefact = identify(inside) if is_file or is_folder else None
    what = KIND_NAMES[artefact.kind] if artefact is not None else KIND_NAMES["checkpoint"]
    _check_suffix(target, artefact if is_file else None, what)
    if os.path.lexists(target):
        raise ExportError(f"{target} exists; nothing is overwritten: name another place")
    root = inside if is_folder else source
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it appears there whole or not at all.
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        for each in files:
            copy = scratch if is_file else scratch / each.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(each, copy)
            _check_hash(folder, each, copy)
        rename_without_replacing(scratch, target)
    except FileExistsError as error:
        raise ExportError(f"{target} has just appeared; nothing was overwritten") from error
    finally:
        _remove(scratch)
    kept_architecture = sorted((source / ARCHITECTURE).glob("*"))
    return Restored(
        path=target,
        kind=what,
        files=len(files),
        size=sum(each.stat().st_size for each in files),
        architecture=kept_architecture[0] if kept_architecture else None,
    )


def _kept_files(folder: Path) -> list[Path]:
    """List the files of the source artefact in a version folder."""
    source = folder / KEPT_SOURCE
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.relative_to(source).parts[0] != ARCHITECTURE
    ]
    if files:
        return files
    told = (read_metadata(folder) or {}).get("source")
    came_from = f"; it was made from {told['name']} (sha256 {told['sha256']})" if isinstance(told, dict) else ""
    raise ExportError(f"{folder} was exported without --keep-source (keep_source=True){came_from}")


def _check_suffix(target: Path, artefact: Artefact | None, what: str) -> None:
    """Refuse a name that says something else than what will be there: both Kerases go by the suffix."""
    if artefact is None:
        if target.name.endswith(_FILE_SUFFIXES):
            raise ExportError(f"the kept source ({what}) is a folder: name it without {target.suffix}")
        return
    fitting = (".h5", ".hdf5") if artefact.suffix == ".h5" else (artefact.suffix,)
    if not target.name.endswith(fitting):
        raise ExportError(
            f"the kept source ({what}) is read by its suffix: "
            f"name it {target.name.partition('.')[0] or 'model'}{artefact.suffix}, not {target.name}"
        )


def _check_hash(folder: Path, kept: Path, copy: Path) -> None:
    recorded = ((read_metadata(folder) or {}).get("files") or {}).get(kept.relative_to(folder).as_posix())
    if recorded is None:
        raise ExportError(
            f"{folder / METADATA} does not say what {kept.relative_to(folder)} was; copy {kept} by hand if you trust it"
        )
    if sha256_of(copy) != recorded:
        raise ExportError(f"{kept} is not what was kept: its SHA-256 differs from the one in {METADATA}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

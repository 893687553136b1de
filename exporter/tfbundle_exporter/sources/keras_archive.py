"""The .keras archive: a zip with metadata.json, config.json and model.weights.h5, looked at without loading."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from .artefacts import Artefact, family_of, parse_json
from .findings import Finding, is_bomb
from .hdf5_artefact import find_hazards as find_hdf5_hazards

#: A config.json larger than this describes no model.
_MAX_JSON_BYTES = 1 << 28
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def read_archive(path: Path) -> Artefact:
    """Identify a zip file.

    Raises:
        ExportError: It is damaged or not a .keras archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"config.json", "metadata.json"} - set(archive.namelist())
            if missing:
                raise ExportError(f"{path} is a zip file, but not a .keras model: it lacks {min(missing)}")
            metadata = parse_json(path, "metadata.json", _read(path, archive, "metadata.json"))
            config = parse_json(path, "config.json", _read(path, archive, "config.json"))
    except _BAD_ZIP as error:
        raise ExportError(f"{path} is a damaged .keras archive, perhaps cut off while copying: {error}") from error
    version = str(metadata.get("keras_version") or "")
    compiled = config.get("compile_config") or {}
    return Artefact(
        path=path,
        kind="keras_archive",
        keras_version=version,
        family=family_of(path, version),
        architecture={key: value for key, value in config.items() if key != "compile_config"},
        training={key: compiled.get(key) for key in ("optimizer", "loss", "metrics")} if compiled else {},
        size=path.stat().st_size,
    )


def _read(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > _MAX_JSON_BYTES:
        raise ExportError(f"{path} is refused: its {name} claims {size} bytes")
    return archive.read(name)


def find_hazards(path: Path) -> Iterator[Finding]:
    """Find entries that would land elsewhere, data larger than it looks, and links out of the weights.

    Raises:
        ExportError: The archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _find_hazards(path, archive)
    except _BAD_ZIP as error:
        raise ExportError(f"{path} is a damaged .keras archive: {error}") from error


def _find_hazards(path: Path, archive: zipfile.ZipFile) -> Iterator[Finding]:
    stored_bytes = path.stat().st_size
    total = sum(entry.file_size for entry in archive.infolist())
    if is_bomb(total, stored_bytes):
        yield Finding(path.name, f"would unpack to {total} bytes from a file of {stored_bytes}")
        return
    for entry in archive.infolist():
        place = f"{path.name}, entry {entry.filename!r}"
        if _leads_outside(entry.filename):
            yield Finding(place, "would be unpacked outside of its folder")
        elif stat.S_ISLNK(entry.external_attr >> 16):
            yield Finding(place, "is a symbolic link")
        elif entry.filename.endswith(".h5"):
            with archive.open(entry) as weights:
                source: Any = weights
                yield from find_hdf5_hazards(source, where=place, stored_bytes=entry.file_size)


def _leads_outside(name: str) -> bool:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts

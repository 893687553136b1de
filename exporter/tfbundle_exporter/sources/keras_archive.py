"""The .keras model, metadata.json, config.json and model.weights.h5, zipped or in a folder: looked at, not loaded."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import files_below

from .artefacts import Artefact, Kind, family_of, parse_json, total_size
from .findings import Finding, is_bomb, is_pickle
from .folder_hazards import find_folder_hazards
from .foreign_files import describe_foreign_zip
from .hdf5_artefact import HDF5_MAGIC, is_hdf5
from .hdf5_artefact import find_hazards as find_hdf5_hazards

ZIP_MAGIC = b"PK\x03\x04"
_METADATA, _CONFIG, _WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
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
            names = archive.namelist()
            missing = {_CONFIG, _METADATA} - set(names)
            if missing:
                what = describe_foreign_zip(names) or f"is a zip file, but not a .keras model: it lacks {min(missing)}"
                raise ExportError(f"{path} {what}")
            metadata, config = _read(path, archive, _METADATA), _read(path, archive, _CONFIG)
    except _BAD_ZIP as error:
        raise ExportError(f"{path} is a damaged .keras archive, perhaps cut off while copying: {error}") from error
    return _describe(path, "keras_archive", (path,), metadata=metadata, config=config)


def is_unzipped(folder: Path) -> bool:
    """Tell whether a folder holds what a .keras archive does."""
    return (folder / _CONFIG).is_file() and any((folder / name).is_file() for name in (_METADATA, _WEIGHTS))


def read_unzipped(folder: Path) -> Artefact:
    """Identify an unzipped .keras model.

    Raises:
        ExportError: It is damaged or incomplete.
        OSError: It cannot be read.
    """
    for name in (_METADATA, _CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise ExportError(f"{folder} is an unzipped .keras model without its {name}; copy that, too")
    texts = {name: (folder / name).read_bytes() for name in (_METADATA, _CONFIG)}
    files = files_below(folder)
    return _describe(folder, "keras_folder", files, metadata=texts[_METADATA], config=texts[_CONFIG])


def _describe(path: Path, kind: Kind, files: tuple[Path, ...], *, metadata: bytes, config: bytes) -> Artefact:
    version = str(parse_json(path, _METADATA, metadata).get("keras_version") or "")
    content = parse_json(path, _CONFIG, config)
    compiled = content.get("compile_config")
    return Artefact(
        path=path,
        kind=kind,
        keras_version=version,
        family=family_of(path, version),
        files=files,
        writer=f"Keras {version}",
        architecture={key: value for key, value in content.items() if key != "compile_config"},
        training={key: compiled.get(key) for key in ("optimizer", "loss", "metrics")}
        if isinstance(compiled, dict) and compiled
        else {},
        size=total_size(files),
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
        elif not entry.is_dir():
            with archive.open(entry) as content:
                head = content.read(16)
                content.seek(0)
                if head.startswith(HDF5_MAGIC):
                    source: Any = content
                    yield from find_hdf5_hazards(source, where=place, stored_bytes=entry.file_size)
                elif is_pickle(head):
                    yield Finding(place, "is a pickle, which runs code when it is read")


def find_unzipped_hazards(artefact: Artefact) -> Iterator[Finding]:
    """Find links out of the folder, pickles in it, and links out of the weights.

    Raises:
        ExportError: The weights are damaged.
    """
    yield from find_folder_hazards(artefact)
    for path in artefact.files:
        # By its name, too: Keras opens that file, whatever it holds.
        if path.is_file() and (path.name == _WEIGHTS or is_hdf5(path)):
            place = f"{artefact.path.name}, file {path.relative_to(artefact.path).as_posix()!r}"
            yield from find_hdf5_hazards(path, where=place, stored_bytes=path.stat().st_size)


def _leads_outside(name: str) -> bool:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return posix.is_absolute() or bool(windows.anchor) or ".." in posix.parts or ".." in windows.parts

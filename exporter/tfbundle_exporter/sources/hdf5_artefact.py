"""Full-model HDF5 files (.h5, .hdf5), looked at through h5py alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from .artefacts import Artefact, family_of, parse_json
from .findings import Finding, is_bomb

#: Attributes (Keras 2) and groups (later) at the root of a file that holds weights without an architecture.
_WEIGHTS_ONLY_MARKS = {"layer_names", "layer_names0", "layers", "_layer_checkpoint_dependencies"}


def read_hdf5(path: Path) -> Artefact:
    """Identify an HDF5 file.

    Raises:
        ExportError: It is damaged, holds weights only, or is not Keras's.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            members = set(file)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path} is a damaged HDF5 file, perhaps cut off while copying: {error}") from error
    if "model_config" not in attributes:
        if (attributes.keys() | members) & _WEIGHTS_ONLY_MARKS:
            raise ExportError(
                f"{path} holds weights without an architecture; expected a full model, as model.save() writes it"
            )
        raise ExportError(f"{path} is an HDF5 file, but not a Keras model: it has no attribute model_config")
    keras_version = _text(path, attributes, "keras_version") if "keras_version" in attributes else ""
    training: dict[str, Any] = {}
    if "training_config" in attributes:
        content = parse_json(path, "training_config", _text(path, attributes, "training_config"))
        training = {"optimizer": content.get("optimizer_config")}
        training |= {key: content.get(key) for key in ("loss", "metrics")}
    return Artefact(
        path=path,
        kind="hdf5",
        keras_version=keras_version,
        family=family_of(path, keras_version),
        architecture=parse_json(path, "model_config", _text(path, attributes, "model_config")),
        training=training,
        size=path.stat().st_size,
    )


def _text(path: Path, attributes: dict[str, Any], name: str) -> str:
    """Read an attribute that older h5py wrote as bytes."""
    value = attributes[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    raise ExportError(f"{path} is damaged: its attribute {name} is a {type(value).__name__}, expected a text")


def find_hazards(source: Any, *, where: str, stored_bytes: int) -> Iterator[Finding]:
    """Find links out of an HDF5 file and data that is larger than it looks.

    Args:
        source: A path or an open binary file.
        where: How the file is named in findings.
        stored_bytes: Size of the file, against which the size of the data is measured.

    Raises:
        ExportError: The file is damaged.
    """
    import h5py

    try:
        with h5py.File(source, "r") as file:
            yield from _walk(h5py, file, where, stored_bytes)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{where} is a damaged HDF5 file: {error}") from error


def _walk(h5py: Any, file: Any, where: str, stored_bytes: int) -> Iterator[Finding]:
    declared = 0
    groups, seen = [file], set()
    while groups:
        group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # hard links may run in circles
            continue
        seen.add(address)
        for name in group:
            place = f"{where}, {group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield Finding(place, f"is a link to {getattr(link, 'filename', '') or link.path!r}")
                continue
            member = group[name]
            if isinstance(member, h5py.Group):
                groups.append(member)
            elif isinstance(member, h5py.Dataset):
                declared += member.nbytes
                if member.external:
                    yield Finding(place, f"keeps its values in the other file {member.external[0][0]!r}")
                if member.is_virtual:
                    yield Finding(place, "is a virtual dataset, made up of other files")
    if is_bomb(declared, stored_bytes):
        yield Finding(where, f"claims {declared} bytes of values in a file of {stored_bytes}")

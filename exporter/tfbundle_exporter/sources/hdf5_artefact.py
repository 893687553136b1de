"""HDF5 files (.h5, .hdf5, .weights.h5), looked at through h5py alone.

full model          attributes model_config and keras_version at the root, the latter on model_weights again
Keras 2 weights     attribute layer_names at the root, mostly keras_version
.weights.h5         no attributes at the root; groups layers and vars; written by Keras 2.12 and later and Keras 3
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import ExportError

from .artefacts import Artefact, Family, Kind, family_of, parse_json
from .findings import Finding, is_bomb, is_pickle

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

#: How Keras 2 lists the layers of a file of weights; from 64 KiB on in pieces, layer_names0, layer_names1...
_LAYER_NAMES = "layer_names"
#: Groups at the root of a .weights.h5, of which one holds every weight.
_LATE_GROUPS = {"layers", "vars", "_layer_checkpoint_dependencies"}
_MAX_CHUNK_BYTES = 1 << 26
#: Where a full model keeps its weights, and repeats who wrote it.
_MODEL_WEIGHTS = "model_weights"


def is_hdf5(path: Path) -> bool:
    """Tell by its first bytes whether a file is HDF5."""
    with path.open("rb") as file:
        return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC


def read_hdf5(path: Path) -> Artefact:
    """Identify an HDF5 file.

    Raises:
        ExportError: It is damaged, or is not Keras's.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            attributes = dict(file.attrs)
            groups = {name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)}
            if _MODEL_WEIGHTS in groups:
                attributes = dict(file[_MODEL_WEIGHTS].attrs) | attributes
            weights, layers = _stored(h5py, file)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path} is a damaged HDF5 file, perhaps cut off while copying: {error}") from error
    kind = _kind(attributes, groups)
    if kind is None:
        raise ExportError(f"{path} is an HDF5 file, but not a Keras model: it has no attribute model_config")
    version = _text(path, attributes, "keras_version") if "keras_version" in attributes else ""
    is_full = kind == "hdf5"
    family, writer = _writer(path, kind, version, named_layers=bool(layers))
    return Artefact(
        path=path,
        kind=kind,
        keras_version=version,
        family=family,
        files=(path,),
        writer=writer,
        architecture=parse_json(path, "model_config", _text(path, attributes, "model_config")) if is_full else None,
        training=_training(path, attributes) if is_full else {},
        size=path.stat().st_size,
        layers=_layer_names(attributes) or tuple(layers.values()),
        weights=weights,
    )


def _kind(attributes: Mapping[str, Any], groups: set[str]) -> Kind | None:
    if "model_config" in attributes:
        return "hdf5"
    if attributes.keys() & {_LAYER_NAMES, f"{_LAYER_NAMES}0"}:
        return "weights_keras2"
    return "weights_v3" if groups & _LATE_GROUPS else None


def _writer(path: Path, kind: Kind, version: str, *, named_layers: bool) -> tuple[Family | None, str]:
    """Tell which package must load a file, and who wrote it."""
    if kind == "weights_v3":
        # Later versions of Keras 3 note the layers' names; but either Keras reads the file of either.
        return None, "Keras 3" if named_layers else "Keras 2.12 or later"
    if kind == "weights_keras2" and not version:
        return "tf_keras", "Keras 1"  # from 2.0 on weights say who wrote them, and Keras 3 writes none of that form
    return family_of(path, version), f"Keras {version}"


def _stored(h5py: Any, file: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """List the values by path, and the names that groups called "vars" note of their layers; no link is followed."""
    weights: dict[str, tuple[int, ...]] = {}
    layers: dict[str, str] = {}

    def visit(path: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset) and not path.startswith("optimizer"):
            weights[path.removeprefix(f"{_MODEL_WEIGHTS}/")] = tuple(member.shape or ())
        elif path.endswith("/vars") and len(member) and isinstance(member.attrs.get("name"), str):
            layers[path] = member.attrs["name"]

    file.visititems(visit)
    return weights, layers


def _layer_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    pieces = [attributes[_LAYER_NAMES]] if _LAYER_NAMES in attributes else []
    pieces += [attributes[name] for at in range(len(attributes)) if (name := f"{_LAYER_NAMES}{at}") in attributes]
    return tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for piece in pieces for name in piece
    )


def _training(path: Path, attributes: Mapping[str, Any]) -> dict[str, Any]:
    if "training_config" not in attributes:
        return {}
    content = parse_json(path, "training_config", _text(path, attributes, "training_config"))
    return {"optimizer": content.get("optimizer_config")} | {key: content.get(key) for key in ("loss", "metrics")}


def _text(path: Path, attributes: Mapping[str, Any], name: str) -> str:
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
        for name, value in group.attrs.items():
            if is_pickle(_head(value)):
                yield Finding(
                    f"{where}, attribute {name} of {group.name}", "is a pickle, which runs code when it is read"
                )
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
                elif member.is_virtual:
                    yield Finding(place, "is a virtual dataset, made up of other files")
                elif _holds_pickle(member):
                    yield Finding(place, "holds a pickle, which runs code when it is read")
    if is_bomb(declared, stored_bytes):
        yield Finding(where, f"claims {declared} bytes of values in a file of {stored_bytes}")


def _holds_pickle(dataset: Any) -> bool:
    """Look at the beginning of what could be bytes: text, opaque values, or rows of uint8."""
    is_bytes = dataset.dtype.kind in "SVO" or dataset.dtype == "uint8"
    chunk_bytes = math.prod(dataset.chunks or (1,)) * dataset.dtype.itemsize
    # To look at one value is to unpack its chunk; one of that size is left alone, since nothing ever unpickles it.
    if not is_bytes or dataset.shape is None or 0 in dataset.shape or chunk_bytes > _MAX_CHUNK_BYTES:
        return False
    if dataset.ndim == 0:
        return is_pickle(_head(dataset[()]))
    first = dataset[(0,) * (dataset.ndim - 1)][:16]
    return is_pickle(_head(first.tobytes() if dataset.dtype == "uint8" else first[0]))


def _head(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value[:16]
    if getattr(getattr(value, "dtype", None), "kind", "") in "VSu" and hasattr(value, "tobytes"):
        return bytes(value.tobytes()[:16])
    return b""

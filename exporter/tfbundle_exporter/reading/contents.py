"""Any source or version folder, opened for reading: layers, signatures and weights, with nothing of it executed."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.apis.fingerprint import Fingerprint, read_fingerprint
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE, Signature
from tfbundle_serving.apis.version_folder import SAVED_MODEL, read_metadata

from ..sources.artefacts import Artefact, Kind
from ..sources.findings import is_bomb
from ..sources.places import find_place
from ..sources.sniffing import identify
from ..sources.tensor_bundle import read_bundle
from . import hdf5_weights, stored_weights
from .layers import Node, read_layers
from .stored_weights import StoredWeight

#: What a damaged file may raise while it is looked at; h5py speaks of damage as KeyError and RuntimeError.
_DAMAGE = (BundleError, OSError, KeyError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
    """The weights of a file or folder.

    Attributes:
        weights: Name to weight, in the file's order.
        optimizer_state: Whether an optimizer could go on from it.
    """

    weights: Mapping[str, StoredWeight] = field(default_factory=dict)
    optimizer_state: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a source or version folder holds; its weights can be read as long as it is open.

    Attributes:
        artefact: What it is.
        layers: The layers of its configuration, where it has one.
        signatures: Name to signature, of a SavedModel.
        stored: Its weights.
        fingerprint: TensorFlow's hashes of a SavedModel.
        metadata: What the metadata.json of a version folder says; None where there is none.
        troubles: What could not be read, a line each.
    """

    artefact: Artefact
    layers: tuple[Node, ...]
    signatures: Mapping[str, Signature]
    stored: StoredWeights
    fingerprint: Fingerprint | None
    metadata: Mapping[str, Any] | None
    troubles: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.artefact.path


@contextmanager
def open_contents(path: str | os.PathLike[str], *, pick: str = "") -> Iterator[Contents]:
    """Open a source or a version folder.

    Args:
        path: A file, a folder, a checkpoint's prefix, or a base path and a tag.
        pick: Which checkpoint of a folder with several.

    Raises:
        ExportError: It is none of them; damage further inside is told in `troubles`.
        OSError: It cannot be read.
    """
    artefact = identify(find_place(path), pick=pick)
    troubles: list[str] = []
    layers = read_layers(artefact.architecture)
    is_folder = artefact.kind == "saved_model"
    with ExitStack() as open_files:
        yield Contents(
            artefact=artefact,
            layers=layers,
            signatures=_try(troubles, _signatures, artefact, default={}) if is_folder else {},
            stored=_try(troubles, _OPENERS[artefact.kind], artefact, layers, open_files, default=StoredWeights()),
            fingerprint=_try(troubles, read_fingerprint, artefact.path, default=None) if is_folder else None,
            metadata=_try(troubles, read_metadata, artefact.path, default=None) if is_folder else None,
            troubles=tuple(troubles),
        )


def _try(troubles: list[str], read: Callable[..., Any], *arguments: Any, default: Any) -> Any:
    try:
        return read(*arguments)
    except _DAMAGE as error:
        troubles.append(" ".join(f"{error}".split()) or type(error).__name__)
        return default


def _signatures(artefact: Artefact) -> dict[str, Signature]:
    path = artefact.path / SAVED_MODEL
    graphs = read_meta_graphs(path) if path.exists() else []
    if not graphs:
        raise BundleError(f"{artefact.path} is written as text (saved_model.pbtxt); its signatures are not shown")
    served = next((graph for graph in graphs if "serve" in graph.tags), graphs[0])
    return {name: each for name, each in sorted(served.signatures.items()) if name != INIT_OP_SIGNATURE}


def _of_hdf5(artefact: Artefact, layers: tuple[Node, ...], open_files: ExitStack) -> StoredWeights:
    return _of_open_hdf5(artefact.path, artefact.size, layers, open_files)


def _of_folder(artefact: Artefact, layers: tuple[Node, ...], open_files: ExitStack) -> StoredWeights:
    return _of_open_hdf5(artefact.path / "model.weights.h5", artefact.size, layers, open_files)


def _of_archive(artefact: Artefact, layers: tuple[Node, ...], open_files: ExitStack) -> StoredWeights:
    archive = open_files.enter_context(zipfile.ZipFile(artefact.path))
    entry = archive.getinfo("model.weights.h5")
    if is_bomb(entry.file_size, artefact.size):
        raise BundleError(
            f"{artefact.path.name}: the weights would unpack to {entry.file_size} bytes; they are not read"
        )
    return _of_open_hdf5(open_files.enter_context(archive.open(entry)), entry.file_size, layers, open_files)


def _of_open_hdf5(source: Any, stored_bytes: int, layers: tuple[Node, ...], open_files: ExitStack) -> StoredWeights:
    import h5py

    file = open_files.enter_context(h5py.File(source, "r"))
    weights = hdf5_weights.weights_of_hdf5(file, layers)
    claimed = sum(weight.size for weight in weights.values())
    if is_bomb(claimed, stored_bytes):
        raise BundleError(f"the weights claim {claimed} values in a file of {stored_bytes} bytes; they are not read")
    return StoredWeights(weights=weights, optimizer_state=hdf5_weights.has_optimizer_state(file))


def _of_saved_model(artefact: Artefact, _: tuple[Node, ...], __: ExitStack) -> StoredWeights:
    prefix = artefact.path / "variables" / "variables"
    # A model without variables has no index.
    return _of_checkpoint(prefix) if prefix.with_name("variables.index").exists() else StoredWeights()


def _of_checkpoint(prefix: Path) -> StoredWeights:
    bundle = read_bundle(prefix)
    return StoredWeights(
        weights=stored_weights.weights_of_bundle(bundle), optimizer_state=stored_weights.has_optimizer_state(bundle)
    )


_OPENERS: dict[Kind, Callable[[Artefact, tuple[Node, ...], ExitStack], StoredWeights]] = {
    "hdf5": _of_hdf5,
    "weights_keras2": _of_hdf5,
    "weights_v3": _of_hdf5,
    "keras_archive": _of_archive,
    "keras_folder": _of_folder,
    "saved_model": _of_saved_model,
    "checkpoint": lambda artefact, _, __: _of_checkpoint(artefact.path),
}

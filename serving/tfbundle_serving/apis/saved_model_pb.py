"""The signatures and tags of a saved_model.pb, and the objects it was saved from, read without TensorFlow.

Source: tensorflow/core/protobuf/saved_model.proto (meta_graphs = 2), meta_graph.proto (meta_info_def = 1, tags = 4 in
it, signature_def = 5, asset_file_def = 6, object_graph_def = 7), saved_object_graph.proto (nodes = 1, user_object = 4
in it: identifier = 1, metadata = 3).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .errors import DecodeError
from .model_metadata import decode_signature_map
from .signatures import Signature
from .wire import as_text, as_view, fields


@dataclass(frozen=True, slots=True)
class MetaGraph:
    """One meta graph: its tags, the TensorFlow that wrote it, and its signatures."""

    tags: frozenset[str]
    tensorflow_version: str
    signatures: dict[str, Signature]


@dataclass(frozen=True, slots=True)
class SavedObjects:
    """What a meta graph was saved from.

    Attributes:
        nodes: How many objects there are; none in a file of TensorFlow 1.
        identifiers: The kinds of the user's objects, such as "_tf_keras_layer".
        root_metadata: What the root object says of itself, JSON where Keras 2 before 2.5 wrote it.
        assets: Names of the asset files, as they are looked up below assets/.
    """

    nodes: int
    identifiers: frozenset[str]
    root_metadata: str
    assets: tuple[str, ...]


def read_meta_graphs(path: Path) -> list[MetaGraph]:
    """Read the meta graphs of a saved_model.pb; the graph itself is stepped over, not parsed.

    Raises:
        DecodeError: The file is not a SavedModel; the message names it.
        OSError: It cannot be read.
    """
    return _parse(path, _read)


def read_saved_objects(path: Path) -> list[SavedObjects]:
    """Read what each meta graph of a saved_model.pb was saved from, in the order of `read_meta_graphs`.

    Raises:
        DecodeError: The file is not a SavedModel; the message names it.
        OSError: It cannot be read.
    """
    return _parse(path, lambda data: [_read_objects(graph) for graph in _meta_graphs(data)])


_Read = TypeVar("_Read")


def _parse(path: Path, read: Callable[[memoryview], _Read]) -> _Read:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise DecodeError(f"{path} is empty, expected a SavedModel")
        # Not closed by hand: views into the map live as long as an error that was raised while reading it.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return read(data)
    except DecodeError as error:
        raise DecodeError(f"{path} is not a SavedModel: {error}") from None


def _meta_graphs(data: memoryview) -> list[memoryview]:
    graphs = [as_view(value, "meta_graphs") for number, _, value in fields(data) if number == 2]
    if not graphs:
        raise DecodeError("it holds no meta graph")
    return graphs


def _read(data: memoryview) -> list[MetaGraph]:
    return [_read_graph(graph) for graph in _meta_graphs(data)]


def _read_graph(data: memoryview) -> MetaGraph:
    tags: set[str] = set()
    version = ""
    for number, _, value in fields(data):
        if number == 1:
            for inner, _, content in fields(as_view(value, "meta_info_def")):
                if inner == 4:
                    tags.add(as_text(content, "tags"))
                elif inner == 5:
                    version = as_text(content, "tensorflow_version")
    return MetaGraph(frozenset(tags), version, decode_signature_map(data, entry_field=5))


def _read_objects(data: memoryview) -> SavedObjects:
    identifiers: set[str] = set()
    assets: list[str] = []
    root_metadata, nodes = "", 0
    for number, _, value in fields(data):
        if number == 6:
            asset = fields(as_view(value, "asset_file_def"))
            assets += [as_text(content, "filename") for inner, _, content in asset if inner == 2]
        elif number == 7:
            for inner, _, node in fields(as_view(value, "object_graph_def")):
                if inner == 1:
                    identifier, metadata = _read_user_object(as_view(node, "nodes"))
                    identifiers.add(identifier)
                    root_metadata = root_metadata if nodes else metadata
                    nodes += 1
    return SavedObjects(nodes, frozenset(identifiers - {""}), root_metadata, tuple(assets))


def _read_user_object(node: memoryview) -> tuple[str, str]:
    identifier = metadata = ""
    for number, _, value in fields(node):
        if number == 4:
            for inner, _, content in fields(as_view(value, "user_object")):
                if inner == 1:
                    identifier = as_text(content, "identifier")
                elif inner == 3:
                    metadata = as_text(content, "metadata")
    return identifier, metadata

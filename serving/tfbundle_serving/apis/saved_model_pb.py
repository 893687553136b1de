"""The signatures and tags of a saved_model.pb, read without TensorFlow.

Source: tensorflow/core/protobuf/saved_model.proto (meta_graphs = 2), meta_graph.proto (meta_info_def = 1, tags = 4 in
it, signature_def = 5).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

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


def read_meta_graphs(path: Path) -> list[MetaGraph]:
    """Read the meta graphs of a saved_model.pb; the graph itself is stepped over, not parsed.

    Raises:
        DecodeError: The file is not a SavedModel; the message names it.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise DecodeError(f"{path} is empty, expected a SavedModel")
        # Not closed by hand: views into the map live as long as an error that was raised while reading it.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _read(data)
    except DecodeError as error:
        raise DecodeError(f"{path} is not a SavedModel: {error}") from None


def _read(data: memoryview) -> list[MetaGraph]:
    graphs = []
    for number, _, value in fields(data):
        if number == 2:
            graphs.append(_read_graph(as_view(value, "meta_graphs")))
    if not graphs:
        raise DecodeError("it holds no meta graph")
    return graphs


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

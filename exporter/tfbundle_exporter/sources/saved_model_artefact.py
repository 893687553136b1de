"""SavedModel folders, looked at without loading, and without TensorFlow unless they are written as text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.file_check import files_below
from tfbundle_serving.apis.saved_model_pb import MetaGraph, SavedObjects, read_meta_graphs, read_saved_objects
from tfbundle_serving.apis.wire import as_text, as_view, fields

from ..reasons import reason_of
from ..runtime import import_tensorflow
from .artefacts import Artefact, Flavour, SavedModelFacts, parse_json, total_size
from .findings import Finding
from .folder_hazards import find_folder_hazards

_BINARY, _TEXT, _CHUNKED = "saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"
#: Where Keras 2.5 and later wrote what earlier ones wrote into the objects themselves.
_KERAS_METADATA = "keras_metadata.pb"
#: What Keras 2 calls its objects.
_KERAS_2_OBJECT = "_tf_keras_"
#: The signatures of a Keras export, one an alias of the other.
_KERAS_EXPORT = frozenset({"serve", "serving_default"})
#: A signature that TensorFlow writes for itself.
_INIT_OP = "__saved_model_init_op"


def is_saved_model(folder: Path) -> bool:
    """Tell whether a folder holds a SavedModel, whole or not."""
    return any((folder / name).is_file() for name in (_BINARY, _TEXT, _CHUNKED))


def read_saved_model(folder: Path) -> Artefact:
    """Identify a SavedModel folder.

    Raises:
        ExportError: It is damaged or incomplete.
        OSError: It cannot be read.
    """
    graphs, objects = _read(folder)
    # The meta graph that is served; without one, the first tells what there is, and loading says what is missing.
    served, saved = next(
        ((graph, objects[at]) for at, graph in enumerate(graphs) if "serve" in graph.tags), (graphs[0], objects[0])
    )
    signatures = tuple(sorted(served.signatures.keys() - {_INIT_OP}))
    metadata = _keras_metadata(folder, saved)
    facts = SavedModelFacts(
        tensorflow_version=served.tensorflow_version,
        flavour=_flavour(folder, signatures, saved),
        signatures=signatures,
        tags=tuple(graph.tags for graph in graphs),
        object_nodes=saved.nodes,
    )
    files = files_below(folder)
    training = metadata.get("training_config") or {}
    return Artefact(
        path=folder,
        kind="saved_model",
        keras_version=str(metadata.get("keras_version") or ""),
        family="tensorflow",
        architecture=metadata.get("model_config"),
        training=_training(training),
        size=total_size(files),
        files=files,
        writer=str(facts),
        saved_model=facts,
    )


def _read(folder: Path) -> tuple[list[MetaGraph], list[SavedObjects]]:
    try:
        if (folder / _BINARY).is_file():
            return read_meta_graphs(folder / _BINARY), read_saved_objects(folder / _BINARY)
        if (folder / _TEXT).is_file():
            return _read_text(folder)
    except DecodeError as error:
        raise ExportError(f"{error}; the file is damaged, perhaps cut off while copying") from error
    raise ExportError(
        f"{folder} holds a SavedModel in chunks ({_CHUNKED}), which is not read here; "
        "save it again without experimental_image_format"
    )


def _read_text(folder: Path) -> tuple[list[MetaGraph], list[SavedObjects]]:
    import_tensorflow()
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        message = text_format.Parse((folder / _TEXT).read_bytes(), saved_model_pb2.SavedModel())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DecodeError(f"{folder / _TEXT} is not a SavedModel: {reason_of(error)}") from error
    with tempfile.NamedTemporaryFile(prefix="tfbundle-") as binary:
        binary.write(message.SerializeToString())
        binary.flush()
        return read_meta_graphs(Path(binary.name)), read_saved_objects(Path(binary.name))


def _flavour(folder: Path, signatures: tuple[str, ...], saved: SavedObjects) -> Flavour:
    if saved.nodes == 0:
        return "tf1"
    if (folder / _KERAS_METADATA).is_file() or any(name.startswith(_KERAS_2_OBJECT) for name in saved.identifiers):
        return "keras2"
    return "keras_export" if set(signatures) == _KERAS_EXPORT else "tf2"


def _keras_metadata(folder: Path, saved: SavedObjects) -> dict[str, Any]:
    """Read what Keras 2 says of the model; empty for everything else.

    Source: tf_keras/protobuf/saved_metadata.proto (nodes = 1; node_path = 3 and metadata = 5 in it).
    """
    path = folder / _KERAS_METADATA
    text = saved.root_metadata
    if path.is_file():
        try:
            nodes = [as_view(node, "nodes") for number, _, node in fields(memoryview(path.read_bytes())) if number == 1]
            read = [{number: value for number, _, value in fields(node)} for node in nodes]
            roots = [node for node in read if as_text(node.get(3, memoryview(b"")), "node_path") == "root"]
            text = as_text(roots[0].get(5, memoryview(b"")), "metadata") if roots else ""
        except DecodeError as error:
            raise ExportError(f"{path} is damaged: {error}") from error
    elif not any(name.startswith(_KERAS_2_OBJECT) for name in saved.identifiers):
        return {}
    return parse_json(path if path.is_file() else folder, "metadata of the root object", text) if text else {}


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    if not config:
        return {}
    return {"optimizer": config.get("optimizer_config")} | {key: config.get(key) for key in ("loss", "metrics")}


def find_hazards(artefact: Artefact) -> Iterator[Finding]:
    """Find files that lie elsewhere, asset names that lead elsewhere, and pickles beside the model.

    What the graph itself may do is the gate's to look at: its operations are scanned there.

    Raises:
        ExportError: The SavedModel is damaged.
    """
    yield from find_folder_hazards(artefact)
    _, objects = _read(artefact.path)
    for saved in objects:
        for name in saved.assets:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                yield Finding(f"{artefact.path.name}, asset {name!r}", "would be read from outside of the folder")

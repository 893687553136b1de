"""TensorFlow checkpoints: from what people type to the prefix, and from the prefix to what it holds.

    folder/checkpoint                          names the latest prefix
    folder/cp-0003.ckpt.index                  the table of cp-0003.ckpt
    folder/cp-0003.ckpt.data-00000-of-00001    its values

The prefix is folder/cp-0003.ckpt, which is no file. Its last part may be empty: folder/.index.
"""

from __future__ import annotations

import ast
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath, PureWindowsPath

from tfbundle_serving.apis.errors import DecodeError, ExportError
from tfbundle_serving.apis.wire import as_int, as_text, as_view, fields

from .artefacts import Artefact, Family, total_size
from .findings import Finding, is_bomb
from .folder_hazards import find_folder_hazards
from .tensor_bundle import Bundle, read_bundle

#: The last bytes of a LevelDB table, which an index and a whole checkpoint of before 2016 are.
TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
STATE = "checkpoint"
_INDEX = ".index"
_DATA = re.compile(r"(.*)\.data-\d{5}-of-\d{5}", re.DOTALL)
_STATE_ENTRY = re.compile(
    rb'^\s*model_checkpoint_path\s*:\s*("(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\')', re.MULTILINE
)

#: The objects that a checkpoint of TensorFlow 2 was saved from; one of TensorFlow 1 has none.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
#: Names of attributes that only one of the two Kerases gives to its models, layers and optimizers.
_FAMILY_MARKS: tuple[tuple[Family, re.Pattern[str]], ...] = (
    ("tf_keras", re.compile(r"layer_with_weights-\d+|layer-\d+|state_spec|train_tf_function")),
    ("keras", re.compile(r"_functional|_operations|_losses_override|_trainable_variables_indices")),
)
_WRITERS: dict[Family | None, str] = {
    "tf_keras": "TensorFlow 2, Keras 2",
    "keras": "TensorFlow 2, Keras 3",
    None: "TensorFlow 2",
}


def find_prefix(path: Path) -> Path | None:
    """Tell which checkpoint a path means: a prefix, an index or a data file; None where it means none.

    A prefix with an empty last part is given as its folder.
    """
    data = _DATA.fullmatch(path.name)
    if data is not None and path.is_file():
        return _beside(path, data[1])
    if path.name.endswith(_INDEX) and path.is_file() and is_table(path):
        return _beside(path, path.name.removesuffix(_INDEX))
    return path if index_file(path).is_file() else None


def _beside(path: Path, name: str) -> Path:
    return path.with_name(name) if name else path.parent


def index_file(prefix: Path) -> Path:
    """Name the index of a prefix, be its last part empty or not."""
    named = prefix.with_name(f"{prefix.name}{_INDEX}") if prefix.name else prefix / _INDEX
    return named if named.is_file() or not (prefix / _INDEX).is_file() else prefix / _INDEX


def is_table(path: Path) -> bool:
    """Tell by its last bytes whether a file is an index, or a whole checkpoint of early TensorFlow 1."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(TABLE_MAGIC)))
        return file.read() == TABLE_MAGIC


def read_state(folder: Path) -> Path:
    """Read which checkpoint a folder calls its latest.

    Where the folder was moved since, the path written in it is of the old place; the same name here is meant.

    Args:
        folder: A folder with a file "checkpoint".

    Returns:
        The prefix, in that folder.

    Raises:
        ExportError: The file is damaged, leads out of the folder, or names what is not there.
    """
    path = folder / STATE
    match = _STATE_ENTRY.search(path.read_bytes())
    try:
        written = "" if match is None else os.fsdecode(ast.literal_eval(f"b{match[1].decode('ascii')}"))
    except (ValueError, SyntaxError):
        written = ""
    if not written:
        raise ExportError(f'{path} is damaged: expected a line model_checkpoint_path: "NAME"')
    named = PureWindowsPath(written) if re.match(r"[A-Za-z]:\\", written) else PurePath(written)
    inside = PurePath(named.name) if named.is_absolute() else named
    if named.is_absolute() and isinstance(named, PurePath) and PurePath(named).is_relative_to(folder.absolute()):
        inside = PurePath(named).relative_to(folder.absolute())
    prefix = folder / inside
    if ".." in inside.parts or not Path(os.path.realpath(prefix)).is_relative_to(os.path.realpath(folder)):
        raise ExportError(f"{path} names {written!r}, which is outside of its folder; give the checkpoint's own prefix")
    if not index_file(prefix).is_file():
        raise ExportError(
            f"{path} names {written!r} as the latest, but {inside.as_posix()}{_INDEX} is not in the folder; "
            "copy it, too, or give the prefix of another"
        )
    return prefix


def read_checkpoint(prefix: Path) -> Artefact:
    """Identify a checkpoint.

    Raises:
        ExportError: It is damaged, lacks a file, or is TensorFlow 1's.
        OSError: It cannot be read.
    """
    index = index_file(prefix)
    if not index.is_file():
        raise ExportError(
            f"{prefix} is a checkpoint without its file {index.name}, which must lie beside its data file"
        )
    with _named(prefix) as named:
        try:
            bundle = read_bundle(named)
            missing = bundle.missing_bytes()
            shapes = {key: entry.shape for key, entry in bundle.entries.items() if key != _OBJECT_GRAPH}
            if _OBJECT_GRAPH not in bundle.entries:
                raise ExportError(_explain_version_1(prefix, shapes))
            objects = [] if missing else _objects(bundle)
        except DecodeError as error:
            raise ExportError(f"{index} is damaged, perhaps cut off while copying: {error}") from error
    stem = index.name.removesuffix(_INDEX)
    shards = [f"{stem}.data-{shard:05d}-of-{bundle.shards:05d}" for shard in range(bundle.shards)]
    for shard in shards:
        if not index.with_name(shard).is_file():
            raise ExportError(f"{prefix} lacks its file {shard}, which holds the values; copy it beside {index.name}")
    for path, short in missing.items():
        raise ExportError(f"{index.with_name(path.name)} is damaged: it ends {short} bytes early; copy it again")
    files = tuple(sorted([index, *map(index.with_name, shards)]))
    family = _family(objects)
    return Artefact(
        path=prefix,
        kind="checkpoint",
        family=family,
        size=total_size(files),
        files=files,
        writer=_WRITERS[family],
        layers=_layers(objects),
        weights={key.removesuffix(_VALUE): shape for key, shape in shapes.items()},
    )


def _explain_version_1(prefix: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    held = f" of variables such as {min(shapes)!r}" if shapes else ", and is empty"
    return (
        f"{prefix} is a checkpoint of TensorFlow 1{held}: it says nothing of the objects that they belong to; "
        "expected one of TensorFlow 2. Restore it where it was made, with tf.compat.v1.train.Saver, "
        "and export from there a SavedModel (tf.compat.v1.saved_model.simple_save or Estimator.export_saved_model)"
    )


def explain_table(path: Path) -> str:
    """Say what a file is that ends like an index and is none: a whole checkpoint of early TensorFlow 1."""
    return _explain_version_1(path, {}).replace(", and is empty", ", in the form of before 2016")


@contextmanager
def _named(prefix: Path) -> Iterator[Path]:
    """Give a prefix with an empty last part a name for the while, since a path cannot end in none."""
    index = index_file(prefix)
    if index.name != _INDEX:
        yield prefix
        return
    with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder:
        for path in index.parent.glob(".*"):
            if path == index or _DATA.fullmatch(path.name):
                Path(folder, f"model{path.name}").symlink_to(path.absolute())
        yield Path(folder, "model")


class _Object:
    """An object of the graph: the names that it is known by, its variable's own name."""

    __slots__ = ("children", "full_name", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.full_name = ""
        self.children: list[tuple[str, int]] = []


def _objects(bundle: Bundle) -> list[_Object]:
    """Read the objects that a checkpoint was saved from.

    Source: tensorflow/core/protobuf/trackable_object_graph.proto (nodes = 1; children = 1 {node_id = 1, local_name = 2}
    and attributes = 2 {full_name = 2} in it).
    """
    content = bundle.read(_OBJECT_GRAPH).ravel()
    objects = []
    for number, _, node in fields(memoryview(content[0]) if content.size else memoryview(b"")):
        if number != 1:
            continue
        found = _Object()
        for inner, _, value in fields(as_view(node, "nodes")):
            if inner == 1:
                child = dict[int, int | memoryview]((n, v) for n, _, v in fields(as_view(value, "children")))
                found.children.append((as_text(child.get(2, memoryview(b"")), "name"), as_int(child.get(1, 0), "id")))
            elif inner == 2:
                for part, _, text in fields(as_view(value, "attributes")):
                    found.full_name = as_text(text, "full_name") if part == 2 else found.full_name
        objects.append(found)
    for each in objects:
        for name, place in each.children:
            if place < len(objects):
                objects[place].names.append(name)
    return objects


def _family(objects: list[_Object]) -> Family | None:
    names = {name for each in objects for name in each.names}
    families = {family for family, mark in _FAMILY_MARKS if any(map(mark.fullmatch, names))}
    return families.pop() if len(families) == 1 else None


def _layers(objects: list[_Object]) -> tuple[str, ...]:
    """Name the layers by their variables' own names; those of an optimizer are numbered, not named, and left out."""
    owners = (
        each.full_name.rpartition("/")[0]
        for each in objects
        if any(not name.isdecimal() and name not in ("_iterations", "_learning_rate") for name in each.names)
    )
    return tuple(dict.fromkeys(filter(None, owners)))


def find_hazards(artefact: Artefact) -> Iterator[Finding]:
    """Find files that lie elsewhere and values that are larger than they look."""
    yield from find_folder_hazards(artefact)
    claimed = sum(map(math.prod, artefact.weights.values()))
    if is_bomb(claimed, artefact.size):
        yield Finding(artefact.path.name, f"claims {claimed} values in files of {artefact.size} bytes")

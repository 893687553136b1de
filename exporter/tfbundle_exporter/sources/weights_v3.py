"""Weights as Keras 3 and late Keras 2 write them to .weights.h5: a tree of the model's layers, nameless arrays in it.

    /layers/dense/vars/0        (64, 10)
    /layers/dense/vars/1        (10,)
    /layers/bidirectional/forward_layer/cell/vars/0

What fits is found out by writing the tree of the architecture itself and laying both side by side.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import BundleError, ExportError

from .mismatch import Mismatch, Shape, values_of, weights_of
from .user_code import explain_failure

#: What a model needs for training only, and seeds, which differ in every process anyway.
_BESIDE = re.compile(r"^(_?optimizer|_?metrics|_?loss_tracker|_compile_metrics)/|(^|/)seed_generator(/|$)")
#: Keras 2.12 called the layers of a model so; the tree below is the same.
_EARLY_NAME = "_layer_checkpoint_dependencies"


def load_v3_weights(model: Any, source: Path, *, origin: str) -> int:
    """Load weights into a live model of either Keras, all of them or none.

    Args:
        model: The model; it is built.
        source: The weights file.
        origin: The architecture, in messages.

    Returns:
        How many weights were restored.

    Raises:
        ExportError: They do not fit; the message lists paths and shapes.
    """
    with tempfile.TemporaryDirectory(prefix="tfbundle-") as folder:
        ours, link = Path(folder, "ours.weights.h5"), Path(folder, "theirs.weights.h5")
        _write(model, ours)
        wanted, names = _read_tree(ours)
        stored, stored_names = _read_tree(source)
        _compare(stored, wanted, source, origin)
        _refuse_swapped(stored_names, names, source, origin)
        if any(_EARLY_NAME in path for path in stored.values()):
            _rewrite(source, link, stored)
        else:
            link.symlink_to(source.resolve())
        try:
            model.load_weights(link)
        except BundleError:
            raise
        except Exception as error:
            raise ExportError(f"{source} cannot be loaded into {origin}: {explain_failure(error)}") from error
        if not _holds_all(model, source, stored):
            ours.unlink()
            _write(model, ours)
            _check_restored(source, stored, ours, wanted)
    return len(wanted)


def keras_names(source: Path) -> bool:
    """Tell whether the file names its layers, as Keras 3 does and Keras 2 does not."""
    return any(_read_tree(source)[1].values())


def _write(model: Any, path: Path) -> None:
    try:
        model.save_weights(path)
    except Exception as error:
        raise ExportError(f"the architecture cannot take weights: {explain_failure(error)}") from error


class _Tree(dict[str, str]):
    """Path of each array, by today's names, to its path in the file; `shapes` has their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: dict[str, Shape] = {}


def _read_tree(path: Path) -> tuple[_Tree, dict[str, str]]:
    """Read the arrays' paths and shapes, and the layers' names where they are recorded."""
    import h5py

    tree, names = _Tree(), dict[str, str]()

    def visit(name: str, member: Any) -> None:
        today = name.replace(_EARLY_NAME, "layers")
        if _BESIDE.search(today):
            return
        if isinstance(member, h5py.Dataset):
            tree[today] = name
            tree.shapes[today] = tuple(int(size) for size in member.shape)
        elif today.endswith("/vars") and "name" in member.attrs:
            names[today.removesuffix("/vars")] = str(member.attrs["name"])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path} is damaged: its weights cannot be read ({error})") from error
    return tree, names


def _compare(stored: _Tree, wanted: _Tree, source: Path, origin: str) -> None:
    Mismatch(
        missing=[_told(path, wanted.shapes) for path in wanted if path not in stored],
        left_over=[_told(path, stored.shapes) for path in stored if path not in wanted],
        shapes=[
            (path, stored.shapes[path], wanted.shapes[path])
            for path in wanted
            if path in stored and stored.shapes[path] != wanted.shapes[path]
        ],
    ).refuse(source, origin)
    if not wanted:
        raise ExportError(f"{origin} has no weights; {source} cannot belong to it")


def _told(path: str, shapes: Mapping[str, Shape]) -> str:
    return f"{path} {shapes[path]}"


def _refuse_swapped(stored: Mapping[str, str], wanted: Mapping[str, str], source: Path, origin: str) -> None:
    """Stop where a layer that the user named is at another place, since it would get another layer's weights."""
    places = {name: path for path, name in wanted.items()}
    for path, name in stored.items():
        kind = re.sub(r"_\d+$", "", path.rsplit("/", 1)[-1])
        automatic = re.fullmatch(rf"{re.escape(kind)}(_\d+)?", name) is not None
        if wanted.get(path) not in (None, name) and name in places and not automatic:
            raise ExportError(
                f"{source} does not fit {origin}: layer {name!r} is at {path} in the file and at {places[name]} in the "
                "architecture; its layers are in another order"
            )


def _rewrite(source: Path, target: Path, stored: _Tree) -> None:
    """Copy the arrays to where they lie today."""
    import h5py

    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        for today, path in stored.items():
            new.create_dataset(today, data=old[path][()])


def _holds_all(model: Any, source: Path, stored: _Tree) -> bool:
    """Tell by checksums whether the model's variables are those of the file; not so where a type was converted."""
    import h5py

    ours = Counter((variable.nbytes, zlib.crc32(variable.tobytes())) for variable in map(values_of, weights_of(model)))
    with h5py.File(source, "r") as file:
        arrays = (np.asarray(file[path]) for path in stored.values())
        return ours == Counter((array.nbytes, zlib.crc32(array.tobytes())) for array in arrays)


def _check_restored(source: Path, stored: _Tree, ours: Path, wanted: _Tree) -> None:
    """Hold what the model now saves against the file, bit by bit."""
    import h5py

    with h5py.File(source, "r") as theirs, h5py.File(ours, "r") as file:
        for path in wanted:
            now = np.asarray(file[path])
            if now.tobytes() != np.asarray(theirs[stored[path]]).astype(now.dtype).tobytes():
                raise ExportError(f"{source}: {path} is not in the model after loading, although it fits")

"""One version folder: is it whole, can a server read it, and is it where it says it is?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL, WARMUP_REQUESTS, parse_version, read_metadata

from ..proof.graph_reader import read_graph
from ..sources.tensor_bundle import read_bundle
from .ailments import Ailment, command, error, lift, set_aside, warning
from .places import GRAPHS, is_saved_model
from .warmup_file import check_warmup_file

#: Ops that stand for a variable.
_VARIABLE_OPS = {"VarHandleOp", "VariableV2", "Variable"}
_ELSE = stat.S_IROTH
_ELSE_FOLDER = stat.S_IROTH | stat.S_IXOTH


def check_version(folder: Path, *, model: str) -> Iterator[Ailment]:
    """Look at one version folder.

    Args:
        folder: A child of a base path whose name is a number.
        model: The base path's name.
    """
    if folder.is_symlink() and not folder.exists():
        yield error(
            folder,
            f"is a link to {folder.readlink()}, which is not there; servers fail to load it",
            command("rm", folder),
        )
    elif not folder.is_dir():
        yield error(
            folder,
            "is a file that is named like a version; servers try to load it and fail",
            command("mv", folder, f"{folder}.file"),
        )
    else:
        yield from _check_permissions(folder)
        try:
            yield from _check_folder(folder, model)
        except PermissionError as denied:
            yield error(
                folder,
                f"cannot be looked at: {denied.strerror} ({denied.filename})",
                command("chmod", "-R", "a+rX", folder),
            )


def _check_folder(folder: Path, model: str) -> Iterator[Ailment]:
    if not is_saved_model(folder):
        yield _not_a_model(folder)
        return
    yield from _check_graph_and_values(folder)
    if (folder / WARMUP_REQUESTS).exists():
        yield from check_warmup_file(folder)
    yield from _check_place(folder, model)


def _not_a_model(folder: Path) -> Ailment:
    """Tell why a version has no graph: nested, half-written, something else, or empty."""
    inner = next((path.parent for name in GRAPHS for path in sorted(folder.glob(f"*/{name}"))), None)
    inner = inner or next((path.parent for name in GRAPHS for path in sorted(folder.glob(f"*/*/{name}"))), None)
    if inner is not None:
        return error(
            folder,
            f"holds its model one folder too deep, in {inner.relative_to(folder)}/; servers find no {SAVED_MODEL}",
            lift(folder, inner),
        )
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return error(folder, "is empty; servers try to load it again and again", command("rmdir", folder))
    if any(name.endswith((".index", ".h5", ".hdf5", ".keras")) or name == "checkpoint" for name in names):
        return error(
            folder,
            f"holds {names[0]} and no {SAVED_MODEL}: a training writes its checkpoints into the base path, "
            "and servers try to load them",
            f"{set_aside(folder)}  (and give ModelCheckpoint a folder outside of the base path)",
        )
    return error(
        folder,
        f"is half-written: it has {', '.join(names[:4])} and no {SAVED_MODEL}; export it again",
        set_aside(folder),
    )


def _check_graph_and_values(folder: Path) -> Iterator[Ailment]:
    path = folder / SAVED_MODEL
    has_variables = False
    if path.exists():
        try:
            has_variables = any(node.op in _VARIABLE_OPS for _, node in read_graph(path).all_nodes())
        except DecodeError as damage:
            yield error(folder, f"cannot be loaded: {damage}; export it again", set_aside(folder))
            return
    if not (folder / "variables" / "variables.index").exists():
        if has_variables:
            yield error(
                folder,
                "is half-written: its graph has variables and variables/variables.index is missing; TensorFlow Serving "
                "says that it is AVAILABLE and every request fails; export it again",
                set_aside(folder),
            )
        return
    try:
        missing = read_bundle(folder / "variables" / "variables").missing_bytes()
    except DecodeError as damage:
        yield error(folder, f"is damaged: {damage}; export it again", set_aside(folder))
        return
    for file, count in missing.items():
        what = f"{count} bytes are missing from" if file.exists() else "there is no"
        yield error(
            folder,
            f"is half-written: {what} {file.relative_to(folder)}; copy it again from where it came, or export it again",
            set_aside(folder),
        )


def _check_permissions(folder: Path) -> Iterator[Ailment]:
    closed = []
    for parent, _, names in os.walk(folder):
        if Path(parent).stat().st_mode & _ELSE_FOLDER != _ELSE_FOLDER:
            closed.append(Path(parent))
        for name in names:
            path = Path(parent, name)
            if path.exists() and not path.stat().st_mode & _ELSE:
                closed.append(path)
    if closed:
        first = closed[0].relative_to(folder)
        what = f"{first} " if first.parts else ""
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield error(
            folder,
            f"cannot be read by others ({what}{stat.filemode(closed[0].stat().st_mode)}{more}); a server that runs as "
            "another user fails to load it",
            command("chmod", "-R", "a+rX", folder),
        )


def _check_place(folder: Path, model: str) -> Iterator[Ailment]:
    try:
        recorded = read_metadata(folder)
    except DecodeError as damage:
        yield warning(folder, f"has a {METADATA} that cannot be read: {damage}", "export it again")
        return
    if recorded is None:
        return
    place = (model, parse_version(folder.name))
    said = (recorded.get("model_name"), recorded.get("version"))
    if said != place:
        yield warning(
            folder,
            f"says in its {METADATA} that it is {said[0]} version {said[1]}; it was copied or renamed",
            "if that is meant, leave it; tags, parity and restore go by the folder it is in",
        )

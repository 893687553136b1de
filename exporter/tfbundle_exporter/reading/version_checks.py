"""One version folder: is it whole, can a server read it, and is it where it says it is?"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL, WARMUP_REQUESTS, parse_version, read_metadata

from ..proof.graph_reader import read_graph
from ..sources.places import GRAPHS, is_saved_model
from ..sources.tensor_bundle import read_bundle
from .ailments import Ailment, command, error, lift, set_aside, warning
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
        closed: list[Ailment] = []
        try:
            closed += check_permissions(folder, [folder, *sorted(folder.rglob("*"))])
            yield from closed
            yield from _check_folder(folder, model)
        except PermissionError as denied:
            if not closed:
                yield cannot_look(folder, denied)
        except OSError as refused:
            yield error(
                folder,
                f"cannot be looked at: {refused.strerror} ({refused.filename}); export it again",
                set_aside(folder),
            )


def _check_folder(folder: Path, model: str) -> Iterator[Ailment]:
    if not is_saved_model(folder):
        yield _not_a_model(folder)
        return
    yield from _check_graph_and_values(folder)
    yield from _check_links(folder)
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


def check_permissions(folder: Path, paths: Iterable[Path]) -> Iterator[Ailment]:
    """Look whether all users can read a folder and what is in it.

    Args:
        folder: The folder, which the remedy is for.
        paths: What of it to look at: itself, files and folders below it.
    """
    closed = []
    for path in paths:
        if path.is_symlink() and not path.exists():
            continue
        mode = path.stat().st_mode
        needed = _ELSE_FOLDER if stat.S_ISDIR(mode) else _ELSE
        if mode & needed != needed:
            closed.append((path, stat.filemode(mode)))
    if closed:
        first, mode_text = closed[0]
        what = "" if first == folder else f"{first.relative_to(folder)} "
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield error(
            folder,
            f"cannot be read by others ({what}{mode_text}{more}); a server that runs as another user fails to load it",
            command("chmod", "-R", "a+rX", folder),
        )


def cannot_look(folder: Path, denied: PermissionError) -> Ailment:
    """Say that a folder is closed to this very user."""
    return error(
        folder, f"cannot be looked at: {denied.strerror} ({denied.filename})", command("chmod", "-R", "a+rX", folder)
    )


def _check_links(folder: Path) -> Iterator[Ailment]:
    """Look for links that lead nowhere; those among the variables are found with what is missing there."""
    for path in sorted(folder.rglob("*")):
        if path.parent.name != "variables" and path.is_symlink() and not path.exists():
            yield error(
                folder,
                f"is not whole: {path.relative_to(folder)} is a link to {path.readlink()}, which is not there; "
                "export it again, or copy it with `cp -rL`",
                set_aside(folder),
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

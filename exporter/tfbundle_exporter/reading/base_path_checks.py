"""One model's base path: which of its children are versions, and what else lies about there."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tfbundle_serving.apis.base_path_lock import LOCK, RELEASED, read_released
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA, list_tags, list_versions, parse_version

from ..sources.places import GRAPHS, is_saved_model
from .ailments import Ailment, command, error, lift, set_aside, warning
from .version_checks import cannot_look, check_permissions, check_version

#: What TensorFlow Serving's REST paths and config files take without escapes.
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_STAGING, _OWNER = ".staging-", "owner"
#: How interrupted exporters, deletions and downloads call what they leave.
_LEFTOVER = re.compile(r"\.trash-.*|\.nested-.*|te?mp[-_.].*|.*\.(tmp|part|partial|new|bak)|.*_temp|.*~", re.IGNORECASE)
_CHECKPOINT_FILE = re.compile(r"checkpoint|.*\.(index|data-\d{5}-of-\d{5}|h5|hdf5|keras)")


def check_base_path(base: Path) -> Iterator[Ailment]:
    """Look at the folder of one model."""
    closed = list(check_permissions(base, [base]))
    yield from closed
    try:
        yield from _check_base_path(base)
    except PermissionError as denied:
        if not closed:
            yield cannot_look(base, denied)


def _check_base_path(base: Path) -> Iterator[Ailment]:
    if not _MODEL_NAME.fullmatch(base.name):
        yield error(
            base,
            "has a name that cannot stand in a URL as it is; expected letters, digits, '_', '-' and '.'",
            command("mv", base, base.with_name(re.sub(r"[^A-Za-z0-9_.\-]+", "_", base.name).lstrip(".-") or "model")),
        )
    versions = list_versions(base)
    if is_saved_model(base):
        aside = base.with_name(f".nested-{base.name}")
        yield error(
            base,
            "is itself a version and lies where the base path should be; servers want a number in between",
            command("mv", base, aside, "&&", "mkdir", base, "&&", "mv", aside, base / "1"),
        )
        return
    if not versions:
        yield from _check_unversioned(base)
    for path in sorted(base.iterdir()):
        if parse_version(path.name) is not None:
            yield from check_version(path, model=base.name)
        else:
            yield from _check_other(path, versions)
    yield from _check_twins(base, versions)
    yield from _check_tags(base)
    yield from _check_released(base, versions)
    yield from _check_training(versions)


def _check_unversioned(base: Path) -> Iterator[Ailment]:
    """Tell why a model has no versions: an extra folder on top, a name that is no number, or nothing there at all."""
    for child in sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if any(inner.is_dir() and is_saved_model(inner) for inner in list_versions(child).values()):
            yield error(base, f"has its versions one folder too deep, in {child.name}/", lift(base, child))
            return
        if is_saved_model(child):
            yield error(
                base,
                f"has a model in {child.name}/, which is no number, so that servers look past it",
                command("mv", child, _next_version(base, {})),
            )
            return
    yield warning(
        base, "has no versions; a server that is told to serve it waits for one", f"tfbundle export MODEL {base}"
    )


def _check_twins(base: Path, versions: dict[int, Path]) -> Iterator[Ailment]:
    for path in sorted(base.iterdir()):
        number = parse_version(path.name)
        if number is not None and versions[number] != path:
            yield error(
                path,
                f"and {versions[number].name} are both version {number}; servers take {versions[number].name} and "
                "look past this one",
                set_aside(path),
            )


def _check_tags(base: Path) -> Iterator[Ailment]:
    first: dict[str, int] = {}
    for number, tag in list_tags(base).items():
        if tag in first:
            yield warning(
                base / str(number),
                f"bears the tag {tag}, as version {first[tag]} does; the tag means the newer one",
                "name the version by its number",
            )
        first[tag] = number


def _check_other(path: Path, versions: Mapping[int, Path]) -> Iterator[Ailment]:
    """Look at a child that is no version, among those that are."""
    if path.name.startswith(_STAGING):
        if path.is_dir() and not _has_living_owner(path):
            yield warning(path, "was left by an exporter that was killed", command("rm", "-r", path))
    elif _LEFTOVER.fullmatch(path.name):
        yield warning(path, "is a leftover; servers look past it, and it takes space", command("rm", "-r", path))
    elif _CHECKPOINT_FILE.fullmatch(path.name) and path.is_file():
        yield warning(
            path,
            "is a checkpoint in a base path: a training writes here, and its next file may have a number for a name",
            "give ModelCheckpoint a folder outside of the base path",
        )
    elif not path.is_dir() or path.name.startswith("."):
        return
    elif is_saved_model(path):
        if versions:
            yield warning(
                path,
                "is a model whose name is no number, so that servers look past it; this would make it the newest",
                command("mv", path, _next_version(path.parent, versions)),
            )
    elif versions and any(is_saved_model(inner) for inner in list_versions(path).values()):
        yield error(
            path,
            "is a model with versions of its own among the versions of another: a folder holds either models or the "
            "versions of one, and servers look for one of the two",
            f"give {', '.join(inner.name for inner in versions.values())} a folder beside {path.name}",
        )
    else:
        inside = next((name.name for name in sorted(path.iterdir()) if _CHECKPOINT_FILE.fullmatch(name.name)), None)
        if inside is not None:
            yield error(
                path,
                f"is a checkpoint folder ({inside}) inside a base path, where a served model belongs",
                command("mv", path, path.parent.with_name(f"{path.parent.name}-{path.name}")),
            )


def _has_living_owner(folder: Path) -> bool:
    """Tell whether the exporter that stages there lives: it holds a lock on its owner file."""
    try:
        # Under the base path's lock, as exporters are when they make the folder and lock it.
        with _shared_lock(folder.parent / LOCK), _shared_lock(folder / _OWNER, blocking=False):
            return False
    except FileNotFoundError:
        return False
    except OSError:  # locked, or another user's and out of our reach
        return True


@contextmanager
def _shared_lock(path: Path, *, blocking: bool = True) -> Iterator[None]:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | (0 if blocking else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def _check_released(base: Path, versions: dict[int, Path]) -> Iterator[Ailment]:
    path = base / RELEASED
    if not path.exists():
        return
    try:
        released = read_released(base)
    except (ExportError, OSError) as damage:
        yield error(
            path,
            f"cannot be read, so that nothing can be exported here ({damage.__cause__ or damage}); "
            "it holds one released number a line",
            f"printf '%s\\n' {' '.join(str(number) for number in versions)} > {command(path)}",
        )
        return
    for number in versions:
        if number > 0 and number not in released:
            yield warning(
                versions[number],
                "was not put here by tfbundle export; if it is deleted, its number may be given out again",
                f"echo {number} >> {command(path)}",
            )


def _next_version(base: Path, versions: Mapping[int, Path]) -> Path:
    """Name the next version; a number that was released once is not given out again."""
    try:
        released = read_released(base)
    except (ExportError, OSError):  # not there, or an ailment of its own
        released = set()
    return base / f"{max([0, *versions, *released]) + 1}"


def _check_training(versions: dict[int, Path]) -> Iterator[Ailment]:
    """Tell a training that writes a SavedModel each epoch: 01, 02 ... by Keras 2, none made by the exporter."""
    written = [
        path
        for path in versions.values()
        if re.fullmatch(r"0\d+", path.name)
        and (path / "keras_metadata.pb").exists()
        and not (path / METADATA).exists()
        and any((path / name).exists() for name in GRAPHS)
    ]
    if written:
        yield error(
            written[-1],
            "looks like an epoch that ModelCheckpoint saved into a base path: each is served as soon as it is there",
            "give ModelCheckpoint a folder outside of the base path, and export the best with --pick best",
        )

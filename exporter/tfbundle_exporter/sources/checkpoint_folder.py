"""A folder of checkpoints as ModelCheckpoint, BackupAndRestore and CheckpointManager leave it: which one is meant."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA, parse_version

from . import checkpoint_artefact
from .artefacts import Picked
from .checkpoint_names import CheckpointName, Direction, direction_of, read_names
from .hdf5_artefact import HDF5_MAGIC
from .keras_archive import ZIP_MAGIC, is_unzipped
from .saved_model_artefact import is_saved_model

#: What BackupAndRestore of Keras 3 keeps, and where it says of which epoch that is.
_BACKUP, _BACKUP_METADATA = "latest.weights.h5", "training_metadata.json"
#: More than this are counted, not listed.
_MAX_LISTED = 12
HOW_TO_PICK = "--pick latest|best|epoch=N (pick=)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the checkpoints of a folder.

    Attributes:
        path: The file, the folder, or the prefix.
        modified: When its files were last written, in seconds since 1970.
        name: What its name tells.
        is_prefix: Whether it is a checkpoint, whose path is no file.
    """

    path: Path
    modified: float
    name: CheckpointName
    is_prefix: bool


def find_candidates(folder: Path) -> list[Candidate]:
    """Find the models and weights that lie in a folder, in the order of their names."""
    found: dict[str, tuple[Path, float]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not path.name.startswith(".") and (is_saved_model(path) or is_unzipped(path)):
                found[path.name] = (path, max(child.stat().st_mtime for child in path.iterdir()))
        elif path.name.endswith(".index"):
            prefix = checkpoint_artefact.find_prefix(path)
            if prefix is not None:
                found[prefix.name if prefix != folder else ""] = (prefix, path.stat().st_mtime)
        elif path.is_file() and not path.name.startswith(".") and _is_model_file(path):
            found[path.name] = (path, path.stat().st_mtime)
    names = read_names(found)
    candidates = [
        Candidate(path=path, modified=modified, name=names[name], is_prefix=path == folder or not path.exists())
        for name, (path, modified) in found.items()
    ]
    return [_with_backup_epoch(each) for each in candidates]


def _is_model_file(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(len(HDF5_MAGIC))
    if not head.startswith(ZIP_MAGIC):
        return head == HDF5_MAGIC
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except zipfile.BadZipFile:
        return path.suffix == ".keras"  # one that was cut off must not vanish from the choice


def _with_backup_epoch(candidate: Candidate) -> Candidate:
    metadata = candidate.path.with_name(_BACKUP_METADATA)
    if candidate.path.name != _BACKUP or not metadata.is_file():
        return candidate
    try:
        told = json.loads(metadata.read_bytes())
        epoch = int(told["epoch"])
        metrics = {key: float(value) for key, value in told.items() if key not in ("epoch", "batch")}
    except (ValueError, KeyError, TypeError, AttributeError):
        return candidate  # a file of that name, and not Keras's
    return replace(candidate, name=replace(candidate.name, epoch=epoch, order=(epoch,), metrics=metrics))


def choose(folder: Path, pick: str) -> tuple[Path, Picked]:
    """Choose the checkpoint that is meant.

    Args:
        folder: The folder.
        pick: "latest", "best", "best:max", "best:min", "best:METRIC", "epoch=N", or "" where there is but one.

    Returns:
        The file, the folder or the prefix, and why it is that one.

    Raises:
        ExportError: There is none, or it is not clear which is meant; the message lists them and the ways to say so.
        OSError: The folder cannot be read.
    """
    match = _PICK.fullmatch(pick.strip())
    if match is None:
        raise ExportError(f"--pick {pick!r}: expected latest, best, best:max, best:min, best:METRIC or epoch=N")
    candidates = find_candidates(folder)
    if not candidates and (folder / checkpoint_artefact.STATE).is_file():
        checkpoint_artefact.read_state(folder)  # says what is missing
    if not candidates:
        raise ExportError(_describe_empty(folder))
    chosen = _RULES[match["rule"]](folder, candidates, match["metric"] or match["epoch"] or "")
    return chosen.path, Picked(name=chosen.path.name, reason=chosen.reason, epoch=chosen.epoch, metric=chosen.metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    path: Path
    reason: str
    epoch: int | None
    metric: tuple[str, float] | None = None


def _take(candidate: Candidate, reason: str, metric: tuple[str, float] | None = None) -> _Choice:
    return _Choice(path=candidate.path, reason=reason, epoch=candidate.name.epoch, metric=metric)


def _the_only(folder: Path, candidates: Sequence[Candidate], _: str) -> _Choice:
    versions = {parse_version(each.path.name): each.path for each in candidates if each.path.is_dir()}
    if None not in versions and len(versions) == len(candidates):
        newest = max(versions, key=lambda number: number or 0)
        exported = " that tfbundle made" if (versions[newest] / METADATA).is_file() else ""
        raise ExportError(
            f"{folder} is a base path with {_count(len(versions), 'version')}{exported}, or a folder of a training's "
            f"epochs, expected one model: the newest is {versions[newest]}; give that, or choose with {HOW_TO_PICK}"
        )
    if all(each.is_prefix for each in candidates) and (folder / checkpoint_artefact.STATE).is_file():
        latest = checkpoint_artefact.read_state(folder)
        named = next((each for each in candidates if each.path == latest), None)
        if named is not None:
            return _take(named, "the latest by the folder's file 'checkpoint'")
    if len(candidates) == 1:
        return _take(candidates[0], "the only one there")
    raise ExportError(f"{folder} holds {len(candidates)} models: {_list(candidates)}; choose with {HOW_TO_PICK}")


def _latest(_folder: Path, candidates: Sequence[Candidate], _: str) -> _Choice:
    is_one_training = len({each.name.template for each in candidates}) == 1
    if is_one_training and all(each.name.order for each in candidates):
        chosen = max(candidates, key=lambda each: each.name.order)
        return _take(chosen, f"the highest epoch, {chosen.name.epoch}")
    chosen = max(candidates, key=lambda each: (each.modified, each.name.order, each.name.name))
    written = datetime.fromtimestamp(chosen.modified, tz=timezone.utc)
    return _take(chosen, f"the newest by its time, {written:%Y-%m-%d %H:%M:%S} UTC, since not all names tell an epoch")


def _epoch(folder: Path, candidates: Sequence[Candidate], wanted: str) -> _Choice:
    found = [each for each in candidates if each.name.epoch == int(wanted)]
    if len(found) == 1:
        return _take(found[0], f"epoch {found[0].name.epoch}")
    if found:
        raise ExportError(
            f"{folder} holds {len(found)} of epoch {wanted}: {_list(found)}; give one of them by its path"
        )
    epochs = sorted({each.name.epoch for each in candidates if each.name.epoch is not None})
    known = f"there are {_shorten(map(str, epochs))}" if epochs else f"no name tells an epoch: {_list(candidates)}"
    raise ExportError(f"{folder} holds no epoch {wanted}; {known}")


def _best(folder: Path, candidates: Sequence[Candidate], detail: str) -> _Choice:
    measured = [each for each in candidates if each.name.metrics]
    if not measured:
        called_best = [each for each in candidates if re.search(r"(?<![a-z])best(?![a-z])", each.path.name.lower())]
        if len(called_best) == 1 and not detail:
            return _take(called_best[0], "the one that is called so; no name tells a metric")
        raise ExportError(
            f"{folder}: which is best is not known, since no name tells a metric: {_list(candidates)}; "
            "choose with --pick latest|epoch=N (pick=)"
        )
    wanted = "" if detail in _ASKED else detail
    metric = _metric(folder, measured, wanted)
    direction = _ASKED.get(detail) or direction_of(metric)
    if direction is None:
        raise ExportError(
            f"{folder}: whether a larger or a smaller {metric or 'value'} is better is not known"
            + ("" if metric else ", and the names do not say what it is")
            + f": {_list(measured)}; say --pick best:max or --pick best:min (pick=)"
        )
    values = {each.path: each.name.metrics[metric] for each in measured if metric in each.name.metrics}
    numbers = [value for value in values.values() if not math.isnan(value)]
    if not numbers:
        raise ExportError(f"{folder}: no {metric or 'value'} in the names is a number: {_list(measured)}")
    value = max(numbers) if direction == "max" else min(numbers)
    equal = [each for each in measured if values.get(each.path) == value]
    # Where training kept only what improved, the later of two that look equal after rounding is the better one.
    chosen = max(equal, key=lambda each: (each.name.order, each.modified))
    which = "largest" if direction == "max" else "smallest"
    tie = f", the latest of {len(equal)}" if len(equal) > 1 else ""
    return _take(chosen, f"the {which} {metric or 'value in a name'}, {value:g}{tie}", (metric, value))


def _metric(folder: Path, measured: Sequence[Candidate], wanted: str) -> str:
    known = list(dict.fromkeys(name for each in measured for name in each.name.metrics))
    if wanted:
        if wanted not in known:
            raise ExportError(f"{folder}: no name tells a metric {wanted!r}; they tell {_shorten(map(repr, known))}")
        return wanted
    of_validation = [name for name in known if name.startswith("val_")]
    for names in (known, of_validation):
        if len(names) == 1:
            return names[0]
    raise ExportError(
        f"{folder}: the names tell {len(known)} metrics ({_shorten(map(repr, known))}): {_list(measured)}; "
        "say which: --pick best:METRIC, or take one by --pick epoch=N (pick=)"
    )


def _describe_empty(folder: Path) -> str:
    below = [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK) and find_candidates(path)
    ]
    hint = f"; {_shorten(str(path) for path in below)} would do" if below else ""
    return (
        f"{folder} is a folder without a model: expected a SavedModel, an unzipped .keras model, "
        f"or .h5, .hdf5, .keras files or checkpoints in it{hint}"
    )


def _list(candidates: Sequence[Candidate]) -> str:
    return _shorten(each.name.name or ".index" for each in candidates)


def _shorten(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    return ", ".join(found[:_MAX_LISTED]) + more


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_ASKED: dict[str, Direction] = {"max": "max", "min": "min"}
_PICK = re.compile(r"(?P<rule>|latest|best|epoch)((?<=best):(?P<metric>\w+)|(?<=epoch)=(?P<epoch>\d+)|(?<!epoch))")
_RULES: dict[str, Callable[[Path, Sequence[Candidate], str], _Choice]] = {
    "": _the_only,
    "latest": _latest,
    "best": _best,
    "epoch": _epoch,
}

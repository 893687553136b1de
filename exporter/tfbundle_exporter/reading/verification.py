"""`tfbundle verify`: is a version folder still what was published? Its files and its answers are checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import BundleError, DecodeError
from tfbundle_serving.apis.file_check import FileCheck, check_files
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL, golden_path, read_metadata

from ..folder.metadata import to_json
from ..fresh_process import FreshProcess
from ..sources.places import GRAPHS, is_saved_model, version_folder
from .golden_check import OutputCheck, check_golden
from .text_table import format_figure, format_table

#: A server seldom has the exporter's GPU, and other work may hold all of its memory.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found of a version folder.

    Attributes:
        folder: The version folder.
        files: Its files; None where nothing says what they were.
        outputs: Its answers to the reference inputs, one entry for each output and batch.
        failures: What should have been checked and could not be.
        notes: What could not be checked for a good reason, which was known when it was exported.
    """

    folder: Path
    files: FileCheck | None
    outputs: tuple[OutputCheck, ...]
    failures: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_proven(self) -> bool:
        """Whether the folder is what was published, and answers as its source did."""
        return (
            self.files is not None
            and self.files.is_clean
            and not self.failures
            and bool(self.outputs)
            and all(output.equal for output in self.outputs)
        )

    def to_json(self) -> dict[str, Any]:
        """Give all of it as JSON values; differences that are no numbers are null."""
        files = self.files
        content: dict[str, Any] = to_json(
            {
                "folder": str(self.folder),
                "proven": self.is_proven,
                "files": None
                if files is None
                else {
                    "checked": files.checked,
                    "missing": files.missing,
                    "changed": files.changed,
                    "extra": files.extra,
                },
                "outputs": [
                    {
                        "signature": each.signature,
                        "output": each.output,
                        "batch": each.batch,
                        "equal": each.equal,
                        "reason": each.reason,
                        "max_abs_diff": each.max_abs_diff,
                    }
                    for each in self.outputs
                ],
                "failures": self.failures,
                "notes": self.notes,
            }
        )
        return content

    def to_text(self) -> str:
        """Give all of it for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.folder}: {'proven' if self.is_proven else 'NOT proven'}"
        if self.files is not None:
            yield f"files: {self.files.checked} as published"
            for what, names in (
                ("missing", self.files.missing),
                ("changed", self.files.changed),
                ("not there when it was published", self.files.extra),
            ):
                yield from (f"  {name}: {what}" for name in names)
        rows = [
            (each.signature, each.output, each.batch, format_figure(each.max_abs_diff), each.verdict)
            for each in self.outputs
        ]
        yield from format_table(("signature", "output", "rows", "max abs diff", "verdict"), rows)
        yield from (f"failed: {failure}" for failure in self.failures)
        yield from (f"note: {note}" for note in self.notes)


def verify(path: str | os.PathLike[str]) -> Verification:
    """Check a version folder against what was recorded when it was published.

    First all files against the hashes in metadata.json; then the version is loaded in a process of its own and asked
    what golden.npz holds. A graph that is not the one that was published is not run: it is a program.

    Args:
        path: The version folder, or a base path and a tag ("models/digits/1.4.0").

    Raises:
        ExportError: There is no version folder; the message says what to name instead.
        ModuleNotFoundError: TensorFlow, which has to run the version, is not installed.
        OSError: A file cannot be read.
    """
    folder = version_folder(path)
    if find_spec("tensorflow") is None:  # or the process below would die of it, and the version seem at fault
        raise ModuleNotFoundError("verify runs the version, with TensorFlow", name="tensorflow")
    failures: list[str] = []
    notes: list[str] = []
    outputs: tuple[OutputCheck, ...] = ()
    recorded = _recorded(folder, failures)
    files = _check_files(folder, recorded, failures)
    if not is_saved_model(folder):
        failures.append(f"{SAVED_MODEL} is missing, so that there is nothing to ask")
    elif files is not None and set(GRAPHS) & {*files.changed, *files.missing, *files.extra}:
        failures.append(f"{SAVED_MODEL} is not the one that was published, so that it was not run")
    elif not golden_path(folder).exists():
        failures.append(f"{golden_path(folder)} is missing, so that there are no answers to hold it against")
    else:
        try:
            with FreshProcess("the verification", environment=_ENVIRONMENT, preload=("tensorflow",)) as process:
                outputs, problems = process.run(check_golden, folder, dict(recorded or {}))
            notes += problems
        except BundleError as error:
            failures.append(str(error))
    return Verification(
        folder=folder, files=files, outputs=outputs, failures=tuple(failures), notes=tuple(dict.fromkeys(notes))
    )


def _recorded(folder: Path, failures: list[str]) -> Mapping[str, Any] | None:
    try:
        recorded = read_metadata(folder)
    except DecodeError as error:
        failures.append(str(error))
        return None
    if recorded is None:
        failures.append(f"there is no {METADATA}, so that nothing says what its files were")
    return recorded


def _check_files(folder: Path, recorded: Mapping[str, Any] | None, failures: list[str]) -> FileCheck | None:
    if recorded is None:
        return None
    hashes = recorded.get("files")
    if not isinstance(hashes, dict) or not hashes:
        failures.append(f"{METADATA} records no files")
        return None
    return check_files(folder, hashes)

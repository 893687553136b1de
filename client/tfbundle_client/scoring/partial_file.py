"""A file of answers grows in a folder beside, and appears whole at the end.

    scores.npy.partial/
        progress.json      what the answers belong to, how many rows are there, how long each file was then
        ...                the answers so far

What was written after the last progress.json is cut off when the work goes on, so that no row is there twice.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.errors import FailedPrecondition, InvalidArgument

from .readers import ENDINGS
from .writers import WRITERS, Outputs

_PROGRESS = "progress.json"


def partial_folder(path: Path) -> Path:
    """Say where a file of answers grows."""
    return path.with_name(f"{path.name}.partial")


class PartialFile:
    """A file of answers that is being written.

    Args:
        path: Where it will be.
        identity: What the answers belong to, as JSON values: who goes on must have the same.
        resume: Go on with what is there; otherwise begin anew.

    Attributes:
        folder: Where it grows.
        rows: How many rows were added.
        kept_rows: How many of them are there for one who resumes.

    Raises:
        InvalidArgument: The ending is none that can be written.
        FailedPrecondition: What is there belongs to something else; the message says what differs.
        OSError: The folder cannot be made or read.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.folder = partial_folder(path)
        self.rows = self.kept_rows = 0
        self._is_torn = False
        self._path = path
        self._identity = json.loads(json.dumps(identity))
        if path.suffix not in WRITERS:
            raise InvalidArgument(f"answers are written to {', '.join(ENDINGS)}, got {path}", attempts=0)
        if self.folder.exists():
            if resume:
                self._go_on()
            else:
                shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writer = WRITERS[path.suffix](self.folder)

    def _go_on(self) -> None:
        try:
            state = json.loads((self.folder / _PROGRESS).read_text("utf-8"))
        except FileNotFoundError:
            state = {"identity": self._identity, "rows": 0, "files": {}}
        except ValueError as error:
            raise FailedPrecondition(f"{self.folder / _PROGRESS} is damaged: {error}", attempts=0) from error
        known = state["identity"]
        differing = [name for name in {**known, **self._identity} if known.get(name) != self._identity.get(name)]
        if differing:
            name = differing[0]
            raise FailedPrecondition(
                f"{self.folder} cannot be gone on with: its {name} is {known.get(name)}, now it is "
                f"{self._identity.get(name)}; run without --resume to begin anew",
                attempts=0,
            )
        for file in self.folder.iterdir():
            if file.name in state["files"]:
                os.truncate(file, state["files"][file.name])
            elif file.name != _PROGRESS:
                file.unlink()
        self.rows = self.kept_rows = state["rows"]

    def append(self, outputs: Outputs, rows: int) -> None:
        """Add the answers to some rows.

        Raises:
            InvalidArgument: An output does not have a row for each row, or values that the file cannot hold.
        """
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != rows:
                raise InvalidArgument(
                    f"output {name!r} has shape {array.shape} for {rows} rows, not an answer for each: "
                    "choose others with --outputs",
                    attempts=0,
                )
        was_torn, self._is_torn = self._is_torn, True
        try:
            self._writer.append(outputs, rows)
        except InvalidArgument:  # nothing was written
            self._is_torn = was_torn
            raise
        self.rows += rows
        self._is_torn = was_torn

    def keep(self) -> None:
        """Note what is there, to go on from it after whatever happens next.

        After rows of which only a part was written (the disk is full, an interrupt came), what was noted before stays.
        """
        if self._is_torn:
            return
        self._writer.flush()
        files = {
            file.name: file.stat().st_size for file in self.folder.iterdir() if not file.name.startswith(_PROGRESS)
        }
        state = {"identity": self._identity, "rows": self.rows, "files": files}
        new = self.folder / f"{_PROGRESS}.new"
        new.write_text(json.dumps(state, indent=2), "utf-8")
        new.replace(self.folder / _PROGRESS)
        self.kept_rows = self.rows

    def finish(self) -> None:
        """Let the whole file appear under its name."""
        self.keep()
        whole = self._writer.finish(self.rows)
        self._writer.close()
        whole.replace(self._path)
        shutil.rmtree(self.folder)

    def discard(self) -> None:
        """Remove what is there."""
        self._writer.close()
        shutil.rmtree(self.folder)

    def close(self) -> None:
        """Let go of open files; what is there stays."""
        self._writer.close()

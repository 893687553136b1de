"""What `tfbundle doctor` finds: where, how bad, what it does to a server, and the command that mends it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: "error": a server fails on it or serves something else than is meant. "warning": it does no harm yet.
Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """Something wrong in a models directory.

    Attributes:
        path: Where.
        severity: How bad.
        what: What is wrong and what comes of it, as the rest of a sentence that begins with the path.
        remedy: A command to type, or what to do where no command can know.
    """

    path: Path
    severity: Severity
    what: str
    remedy: str

    def __str__(self) -> str:
        """Say it in two lines."""
        return f"{self.severity}: {self.path} {self.what}\n    {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {"path": str(self.path), "severity": self.severity, "what": self.what, "remedy": self.remedy}


def error(path: Path, what: str, remedy: str) -> Ailment:
    """Make one that a server fails on."""
    return Ailment(path=path, severity="error", what=what, remedy=remedy)


def warning(path: Path, what: str, remedy: str) -> Ailment:
    """Make one that does no harm yet."""
    return Ailment(path=path, severity="warning", what=what, remedy=remedy)


def command(*words: str | Path) -> str:
    """Write a command so that it can be pasted into a shell; "&&" between two stays as it is."""
    return " ".join("&&" if word == "&&" else shlex.quote(str(word)) for word in words)


def lift(folder: Path, inner: Path) -> str:
    """Give the command that puts an inner folder into its outer one's place, which servers see in one step.

    Folders that are empty then are removed; one that holds something else as well stays aside.
    """
    aside = folder.with_name(f".nested-{folder.name}")
    rest = inner.relative_to(folder)
    words: list[str | Path] = ["mv", folder, aside, "&&", "mv", aside / rest, folder]
    for outer in rest.parents:
        if len(list((folder / outer).iterdir())) > 1:
            break
        words += ["&&", "rmdir", aside / outer]
    return command(*words)


def set_aside(path: Path) -> str:
    """Give the command that takes a version out of a server's sight without deleting it."""
    return command("mv", path, path.with_name(f".trash-{path.name}"))

"""The history beside a models.config: one line of JSON for each time that a label moved.

    {"when": "2026-11-21T13:46:58Z", "model": "digits", "label": "stable", "from": 1, "to": 2, "kept": [1],
     "command": "promote", "who": "ada", "host": "trainer-1"}

A label that was taken away has "to": null. A line is written once it holds at every server; one that was cut short by a
crash is passed over.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tfbundle_serving.apis.durable import replace_file

from .plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One move of a label.

    Attributes:
        model: Model name.
        label: The label.
        before: The version that it left; None where it was new.
        version: The version that it went to; None where it was taken away.
        kept: Versions that stayed loaded only to go back to them.
        command: promote, rollback, canary or drop.
        when: UTC, RFC 3339.
        who: User name.
        host: Machine.
    """

    model: str
    label: str
    before: int | None
    version: int | None
    kept: tuple[int, ...] = ()
    command: str
    when: str = ""
    who: str = ""
    host: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give the line as JSON values."""
        return {
            "when": self.when,
            "model": self.model,
            "label": self.label,
            "from": self.before,
            "to": self.version,
            "kept": list(self.kept),
            "command": self.command,
            "who": self.who,
            "host": self.host,
        }


def history_path(config: Path) -> Path:
    """Name the history of a models.config, whether it exists or not."""
    return config.with_name(f"{config.name}.history")


def read_history(config: Path) -> tuple[Record, ...]:
    """Read the history of a models.config, oldest first; lines that are none are passed over.

    Raises:
        OSError: It is there and cannot be read.
    """
    try:
        lines = history_path(config).read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(record for line in lines if (record := _parse(line)) is not None)


def append_record(config: Path, record: Record) -> Record:
    """Write a line at the end of the history, and say who, where and when.

    Raises:
        OSError: It cannot be written.
    """
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    full = Record(
        model=record.model,
        label=record.label,
        before=record.before,
        version=record.version,
        kept=record.kept,
        command=record.command,
        when=now,
        who=_user(),
        host=socket.gethostname(),
    )
    path = history_path(config)
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = b""
    if before and not before.endswith(b"\n"):  # a line that something cut short must not swallow this one
        before += b"\n"
    # As a whole, as the models.config is: whoever may replace the one may then write the other.
    replace_file(path, before + json.dumps(full.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    return full


def note_move(config: Path, plan: Plan, command: str, *, is_moved: bool) -> None:
    """Write down that a label means a version, unless the history says so already.

    What was moved by a run that was killed, or by hand, is caught up on: the file then says so, and the history not.

    Args:
        config: The models.config.
        plan: How the label moved.
        command: What moved it.
        is_moved: Whether it was moved now; else nothing is known to have happened unless the history tells otherwise.

    Raises:
        OSError: The history cannot be read or written.
    """
    last = last_move(read_history(config), plan.model, plan.label)
    left = plan.left if plan.left is not None or last is None else last.version
    if left == plan.version or (plan.before == plan.version and last is not None and last.version == plan.version):
        return
    if left is None and not is_moved:
        return
    append_record(
        config,
        Record(model=plan.model, label=plan.label, before=left, version=plan.version, kept=plan.kept, command=command),
    )


def last_move(records: Iterable[Record], model: str, label: str) -> Record | None:
    """Find the last move of a label of a model."""
    return next((each for each in reversed(tuple(records)) if (each.model, each.label) == (model, label)), None)


def kept_versions(records: Iterable[Record], model: str, label: str) -> tuple[int, ...]:
    """List the versions that are loaded only because this label left them, and that no other may go back to."""
    last = {record.label: record.kept for record in records if record.model == model}
    kept = last.pop(label, ())
    return tuple(sorted(set(kept).difference(*last.values())))


def kept_by_others(records: Iterable[Record], model: str, label: str) -> frozenset[int]:
    """List the versions that are loaded because other labels of a model may go back to them."""
    last = {record.label: record.kept for record in records if record.model == model}
    last.pop(label, ())
    return frozenset().union(*last.values())


def _parse(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        before = found["from"]
        return Record(
            model=str(found["model"]),
            label=str(found["label"]),
            before=None if before is None else int(before),
            version=None if found["to"] is None else int(found["to"]),
            kept=tuple(int(version) for version in found.get("kept", ())),
            command=str(found.get("command", "")),
            when=str(found.get("when", "")),
            who=str(found.get("who", "")),
            host=str(found.get("host", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user number without a name
        return str(os.getuid())

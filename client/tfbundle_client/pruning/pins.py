"""The versions of a base path that are never pruned because somebody said so.

models/digits/.pinned     one version number a line
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfbundle_serving.apis.durable import replace_file
from tfbundle_serving.apis.errors import DecodeError

PINNED = ".pinned"


def read_pins(base: Path) -> frozenset[int]:
    """Give the pinned numbers.

    Raises:
        DecodeError: The file is damaged.
    """
    path = base / PINNED
    try:
        return frozenset(int(line) for line in path.read_text().split())
    except FileNotFoundError:
        return frozenset()
    except ValueError as error:
        raise DecodeError(f"{path} is damaged ({error}); expected one pinned version number a line") from error


def change_pins(base: Path, *, add: Iterable[int] = (), remove: Iterable[int] = ()) -> frozenset[int]:
    """Pin and unpin versions, and give those that are pinned then; called under the base path's lock."""
    before = read_pins(base)
    after = (before | set(add)) - set(remove)
    if after != before:
        replace_file(base / PINNED, "".join(f"{number}\n" for number in sorted(after)).encode())
    return after

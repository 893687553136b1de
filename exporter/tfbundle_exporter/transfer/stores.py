"""Where version folders lie: a directory, or whatever fsspec reaches by a URL."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from tfbundle_serving.apis.errors import ExportError

from .checksums import Entry

#: Is told of bytes that have travelled.
OnBytes = Callable[[int], None]

#: fsspec's chains ("simplecache::s3://...") count as URLs, too.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(::|://)")


#: Name and password in a URL.
_USER = re.compile(r"(?<=://)[^/?#\s]*@")


def without_secrets(text: str) -> str:
    """Take names and passwords out of the URLs in a text: messages end in logs."""
    return _USER.sub("", text)


class Store(Protocol):
    """One folder somewhere, and what is below it; names are relative to it, with "/" between parts."""

    @property
    def address(self) -> str:
        """What to call it in a message."""

    @property
    def is_parallel(self) -> bool:
        """Whether it takes several calls at once."""

    def below(self, name: str) -> Store:
        """Give a folder in it."""

    def list_files(self) -> dict[str, Entry]:
        """List the files at any depth; none where there is no such folder."""

    def list_children(self) -> list[str]:
        """List the names right in it; none where there is no such folder."""

    def read(self, name: str) -> bytes | None:
        """Read a small file; None where there is none."""

    def fetch(self, name: str, path: Path, on_bytes: OnBytes) -> None:
        """Copy a file from there to a path here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store is reached.

    Attributes:
        endpoint_url: Address of the service, for those that S3's or Google's own is not meant by; "" for the usual.
        values: Further arguments of the fsspec file system.
    """

    endpoint_url: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def local_path(place: str) -> Path | None:
    """Give the path of a directory on this machine; None for a URL of anything else.

    Raises:
        ExportError: A file:// URL names another host.
    """
    if not _URL.match(place):
        return Path(place)
    parts = urlsplit(place)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise ExportError(f"{place} names a file of the host {parts.netloc!r}; expected file:///path")
    return Path(unquote(parts.path))


def open_store(place: str, options: StoreOptions) -> Store:
    """Open a directory or a URL.

    Raises:
        ExportError: Nothing reaches such a URL, or not with these options.
        ModuleNotFoundError: fsspec is not installed.
    """
    path = local_path(place)
    if path is None:
        from .remote_store import open_remote

        return open_remote(place, options)
    if options.endpoint_url or options.values:
        raise ExportError(f"{place} is a directory of this machine; --endpoint-url and --storage-option are for others")
    return LocalStore(root=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStore:
    """A directory of this machine."""

    root: Path

    @property
    def address(self) -> str:
        """Its path."""
        return str(self.root)

    @property
    def is_parallel(self) -> bool:
        """A disk serves several."""
        return True

    def below(self, name: str) -> LocalStore:
        """Give a folder in it."""
        return LocalStore(root=self.root / name)

    def list_files(self) -> dict[str, Entry]:
        """List the files at any depth; links to folders count as files, so that reading them fails."""
        found = {}
        for parent, folders, names in os.walk(self.root):
            for name in [*names, *(each for each in folders if Path(parent, each).is_symlink())]:
                path = Path(parent, name)
                size = path.stat().st_size if path.exists() else 0
                found[path.relative_to(self.root).as_posix()] = Entry(size=size)
        return found

    def list_children(self) -> list[str]:
        """List the names right in it."""
        return sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []

    def read(self, name: str) -> bytes | None:
        """Read a small file."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, name: str, path: Path, on_bytes: OnBytes) -> None:
        """Copy a file to a path."""
        shutil.copyfile(self.root / name, path)
        on_bytes(path.stat().st_size)

"""`tfbundle push`: a version goes to a store, in an order in which no server takes a part of it for the whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.file_check import check_files, sha256_of
from tfbundle_serving.apis.version_folder import METADATA, SAVED_MODEL, parse_version

from ..progress import begin
from ..sources.places import GRAPHS, version_folder
from .arrival import RemoteVersion, arrive
from .checksums import Entry, agrees
from .destination import check_destination
from .manifest import Manifest, read_manifest
from .names import upload_order
from .progress import open_progress
from .stores import LocalStore, StoreOptions, local_path, without_secrets
from .workers import do_all

if TYPE_CHECKING:
    from .remote_store import RemoteStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A version that is at its destination now.

    Attributes:
        folder: The version folder here.
        destination: The version folder there.
        number: The version's number.
        files: How many files it has.
        size: In bytes.
        sent: How many of them had to travel; 0 means it was there.
        hashed: How many were held against a hash, the store's own or of what was read back.
        sized: How many by their size alone, because the store gives no hash.
    """

    folder: Path
    destination: str
    number: int
    files: int
    size: int
    sent: int
    hashed: int
    sized: int

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "folder": str(self.folder),
            "destination": self.destination,
            "version": self.number,
            "files": self.files,
            "bytes": self.size,
            "sent": self.sent,
            "already_there": self.sent == 0,
            "verified_by_hash": self.hashed,
            "verified_by_size": self.sized,
        }

    def to_text(self) -> str:
        """Give it for a person."""
        proof = f"verified there: {self.hashed} by hash" + (
            f", {self.sized} by size alone (--verify reads them back)" if self.sized else ""
        )
        if not self.sent:
            return f"{self.destination}: already there, the same ({proof})"
        some = f"{self.sent} of {self.files}" if self.sent < self.files else str(self.files)
        return f"{self.destination}: {some} files, {self.size / 1e6:.1f} MB in all; {proof}"


def push(
    folder: str | Path, destination: str, *, options: StoreOptions | None = None, verify: bool = False, jobs: int = 8
) -> Pushed:
    """Bring a version folder to a base path elsewhere, under the number that it has.

    A broken-off push is taken up where it stopped. A number that is there whole is never touched.

    Args:
        folder: The version folder, or a base path and a tag (models/digits/1.4.0).
        destination: The base path: a directory, or a URL that fsspec reaches.
        options: How the store is reached.
        verify: Whether to read back what the store gives no hash of.
        jobs: How many files at once.

    Raises:
        ExportError: The folder is not what metadata.json says, the number stands for another content there, or the
            store cannot be reached or does not hold afterwards what was sent, or the destination holds models.
    """
    place = version_folder(folder)
    manifest = _read_whole(place)
    number = parse_version(place.resolve().name) or manifest.number
    if number is None or not 0 < number < 1 << 63:
        raise ExportError(f"{place} has no number; expected a version folder that is named like one, models/digits/7")
    if parse_version(destination.rstrip("/").rpartition("/")[2]) is not None:
        address = without_secrets(destination).rstrip("/")
        above = address.rpartition("/")[0]
        raise ExportError(f"{address} is a version; expected the base path above it, {above}: the number is added")
    local = local_path(destination)
    if local is not None:
        check_destination(LocalStore(root=local), manifest.model)
        return _to_directory(place, manifest, number, local, jobs)
    from .remote_store import open_remote

    base = open_remote(destination, options or StoreOptions())
    check_destination(base, manifest.model)
    return _Sending(place, manifest, number, base.below(str(number)), jobs).send(verify=verify)


def _read_whole(folder: Path) -> Manifest:
    """Hold a folder against its metadata.json."""
    path = folder / METADATA
    if not path.is_file():
        raise ExportError(f"{folder} has no {METADATA}, so that nothing says what its files must be; export it first")
    manifest = read_manifest(path.read_bytes(), str(path))
    begin(logger, "hashing %s", folder)
    wrong = check_files(folder, manifest.files)
    if not wrong.is_clean:
        raise ExportError(
            f"{folder} is not what was published: "
            + "; ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("missing", wrong.missing), ("changed", wrong.changed), ("added", wrong.extra))
                if names
            )
            + f" (see `tfbundle verify {folder}`)"
        )
    return manifest


def _to_directory(folder: Path, manifest: Manifest, number: int, base: Path, jobs: int) -> Pushed:
    store = LocalStore(root=folder)
    version = RemoteVersion(store=store, number=number, entries=store.list_files(), manifest=manifest)
    arrived = arrive(version, base, jobs=jobs)
    return Pushed(
        folder=folder,
        destination=str(arrived.folder),
        number=number,
        files=arrived.files,
        size=arrived.size,
        sent=0 if arrived.was_there else arrived.files,
        hashed=arrived.files,
        sized=0,
    )


class _Sending:
    """One version on its way."""

    def __init__(self, folder: Path, manifest: Manifest, number: int, store: RemoteStore, jobs: int) -> None:
        self._folder, self._manifest, self._number, self._store = folder, manifest, number, store
        self._jobs = jobs if store.is_parallel else 1
        self._names = (*manifest.files, METADATA)

    def send(self, *, verify: bool) -> Pushed:
        there = self._store.list_files()
        self._refuse_another(there)
        missing = self._missing(there)
        if missing:
            there = self._upload(missing, there)
        hashed = self._prove(there, self._names, verify=verify)
        return Pushed(
            folder=self._folder,
            destination=self._store.address,
            number=self._number,
            files=len(self._names),
            size=sum(self._size(name) for name in self._names),
            sent=len(missing),
            hashed=hashed,
            sized=len(self._names) - hashed,
        )

    def _size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def _refuse_another(self, there: Mapping[str, Entry]) -> None:
        """Refuse a number that stands for something else there, whole or half."""
        address = self._store.address
        foreign = sorted(set(there) - set(self._names))
        text = self._store.read(METADATA) if METADATA in there else None
        if foreign or (text is not None and text != self._manifest.text):
            raise ExportError(
                f"{address} is another model than {self._folder} "
                f"({'it also has ' + ', '.join(foreign[:5]) if foreign else 'its ' + METADATA + ' differs'}); "
                "a version is never overwritten, and a number never stands for two models"
            )
        if not set(there).isdisjoint(GRAPHS):
            lacking = [name for name in self._names if name not in there]
            wrong = [name for name in self._names if name in there and there[name].size != self._size(name)]
            if lacking or wrong:
                raise ExportError(
                    f"{address} has a {SAVED_MODEL}, so that servers take it for whole, but "
                    f"{', '.join([*lacking, *wrong])} {'is' if len(lacking + wrong) == 1 else 'are'} missing or of "
                    "another size; remove it there, or publish under another number"
                )

    def _missing(self, there: Mapping[str, Entry]) -> list[str]:
        """List what must travel; of a half version also what is other there, or may be."""
        if not set(there).isdisjoint(GRAPHS):
            return []
        return [
            name for name in self._names if name not in there or agrees(there[name], self._folder / name) is not True
        ]

    def _upload(self, names: list[str], before: Mapping[str, Entry]) -> dict[str, Entry]:
        begin(logger, "sending %s to %s", self._folder, self._store.address)
        with open_progress(f"version {self._number}", sum(map(self._size, names))) as on_bytes:

            def put(name: str) -> None:
                # What was not there when this push began must not be there now: another push may have begun since.
                try:
                    self._store.put(name, self._folder / name, on_bytes, is_new=name not in before)
                except FileExistsError as error:
                    self._refuse_unless_same(name, error)

            for group in upload_order(names):
                if not set(group).isdisjoint(GRAPHS):
                    # With the graph it is public: whatever went wrong, or came between, must be known before.
                    self._prove(self._store.list_files(), tuple(n for n in self._names if n not in group), verify=False)
                do_all(put, group, jobs=self._jobs)
        return self._store.list_files()

    def _refuse_unless_same(self, name: str, error: FileExistsError) -> None:
        entry = self._store.list_files().get(name)
        if entry is None or not agrees(entry, self._folder / name):
            raise ExportError(
                f"{self._store.address}/{name} has just been put there by another push; nothing was overwritten; "
                "push again when that has ended"
            ) from error

    def _prove(self, there: Mapping[str, Entry], names: tuple[str, ...], *, verify: bool) -> int:
        """Hold what is there against what is here, and count what a hash proves.

        Raises:
            ExportError: Something is missing or other.
        """
        begin(logger, "checking %s", self._store.address)
        proven = {name: agrees(there[name], self._folder / name) if name in there else False for name in names}
        # Where one ETag is an MD5, one that is not is that of another content, or of an object encrypted otherwise.
        are_md5 = any(outcome and there[name].is_as_pushed for name, outcome in proven.items())
        for name in (name for name, outcome in proven.items() if outcome is None):
            if verify or (are_md5 and there[name].is_as_pushed):
                proven[name] = self._read_back(name)
        wrong = [name for name, outcome in proven.items() if outcome is False]
        if wrong:
            raise ExportError(
                f"{self._store.address} does not hold what {self._folder} does: {', '.join(wrong)} "
                f"{'is' if len(wrong) == 1 else 'are'} missing or other; "
                "is another push under way? Remove the version there and push again"
            )
        return sum(outcome is True for outcome in proven.values())

    def _read_back(self, name: str) -> bool:
        with TemporaryDirectory(prefix="tfbundle-verify-") as folder:
            copy = Path(folder, "copy")
            self._store.fetch(name, copy, lambda _: None)
            return sha256_of(copy) == sha256_of(self._folder / name)

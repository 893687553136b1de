"""`tfbundle pull`: a version comes from a store into a base path."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import METADATA, list_versions, parse_version

from ..sources.places import GRAPHS
from .arrival import Arrival, RemoteVersion, arrival, arrive, check_whole
from .manifest import read_manifest
from .stores import Store, StoreOptions, local_path, open_store, without_secrets

#: What is larger was not written by an exporter, and is not read into memory.
_MOST_METADATA_BYTES = 64 << 20


def pull(
    source: str,
    base_path: str | Path,
    *,
    version: str = "",
    options: StoreOptions | None = None,
    allow_unverified: bool = False,
    again: bool = False,
    jobs: int = 8,
    proven: Container[int] = (),
) -> Arrival:
    """Bring a version into a base path, whole and proven by its hashes, under the number that it has.

    Args:
        source: A version folder, .../digits/7, or a base path, .../digits: a directory or a URL that fsspec reaches.
        base_path: The folder of the model's versions on this machine.
        version: Of a base path: a number or a tag; "" takes the highest that is whole.
        options: How the store is reached.
        allow_unverified: Whether a version without metadata.json will do.
        again: Whether its number may be one that was here before and was removed.
        jobs: How many files at once.
        proven: Numbers that this process has brought or compared before, which need not be hashed once more.

    Returns:
        What is there now; the same version twice is no error.

    Raises:
        ExportError: It is not there, not whole or not what its hashes say, the number stands for another content here,
            or the store cannot be reached. Nothing appeared.
    """
    base = local_path(str(base_path))
    if base is None:
        raise ExportError(
            f"{without_secrets(str(base_path))} is no directory of this machine; "
            "to bring versions elsewhere: tfbundle push"
        )
    store = open_store(source, options or StoreOptions())
    found = find_remote(store, version)
    if found.number in proven and base.is_dir() and found.number in list_versions(base):
        return arrival(found, list_versions(base)[found.number], was_there=True)
    check_whole(found, allow_unverified=allow_unverified)
    return arrive(found, base, again=again, jobs=jobs)


def find_remote(store: Store, version: str) -> RemoteVersion:
    """Find the version that is meant.

    Raises:
        ExportError: There is none; the message lists those that there are.
    """
    own_number = parse_version(store.address.rstrip("/").rpartition("/")[2])
    children = store.list_children()
    if own_number is not None and not version and (children == [] or _is_version(children)):
        return _read(store, own_number)
    if _is_version(children):
        if version:
            raise ExportError(f"{store.address} is a version itself; --version picks one of a base path")
        return _read(store, None)
    folders = {
        number: child for child in children if (number := parse_version(child)) is not None and 0 < number < 1 << 63
    }
    if not folders:
        raise ExportError(
            f"{store.address} has no versions; expected a version folder, .../digits/7, or the base path above it"
            + (
                f"; there is {', '.join(children[:10])}"
                if children
                else "; there is nothing at all: is the name right?"
            )
        )
    wanted = parse_version(version) if version else None
    if wanted is not None:
        if wanted not in folders:
            raise ExportError(f"{store.address} has no version {wanted}; it has {_say(folders)}")
        return _read(store.below(folders[wanted]), wanted)
    for found in _from_the_top(store, folders):
        if not set(found.entries).isdisjoint(GRAPHS) and (
            not version or (found.manifest is not None and found.manifest.tag == version)
        ):
            return found
    what = f"no whole version (one with a {GRAPHS[0]})" + (f" with the tag {version}" if version else "")
    raise ExportError(f"{store.address} has {what}; it has {_say(folders)}")


def _is_version(children: list[str]) -> bool:
    return not {METADATA, *GRAPHS}.isdisjoint(children)


def _say(folders: dict[int, str]) -> str:
    return ", ".join(str(number) for number in sorted(folders))


def _from_the_top(store: Store, folders: dict[int, str]) -> Iterator[RemoteVersion]:
    for number in sorted(folders, reverse=True):
        yield _read(store.below(folders[number]), number)


def _read(store: Store, number: int | None) -> RemoteVersion:
    """Read what a version folder holds, and what it says that it holds."""
    entries = store.list_files()
    if METADATA in entries and entries[METADATA].size > _MOST_METADATA_BYTES:
        raise ExportError(
            f"{store.address}/{METADATA} has {entries[METADATA].size:,} bytes; "
            f"expected {_MOST_METADATA_BYTES:,} at most"
        )
    text = store.read(METADATA) if METADATA in entries else None
    manifest = None if text is None else read_manifest(text, f"{store.address}/{METADATA}")
    if number is None:
        number = None if manifest is None else manifest.number
    if number is None or not 0 < number < 1 << 63:
        raise ExportError(f"{store.address} has no number; expected a folder that is named like one, .../digits/7")
    return RemoteVersion(store=store, number=number, entries=entries, manifest=manifest)

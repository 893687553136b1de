"""A folder that fsspec reaches: s3://, gs://, and whatever else it knows."""

from __future__ import annotations

import inspect
import logging
import os
from dataclasses import dataclass
from errno import EINVAL, ENOSYS
from pathlib import Path
from typing import Any

import fsspec

from tfbundle_serving.apis.errors import ExportError

from .checksums import PART_BYTES, Entry, read_entry
from .store_errors import speaking_of
from .stores import OnBytes, StoreOptions, without_secrets

# It logs with a traceback what it then raises, and logging says that on stderr where nobody has set it up.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())

#: Stores without folders: to make one there would at best do nothing, and at worst make a bucket.
_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs"}
#: How the file system of a scheme calls the address of the service.
_ENDPOINT = dict.fromkeys(_WITHOUT_FOLDERS, "endpoint_url")


def open_remote(url: str, options: StoreOptions) -> RemoteStore:
    """Open a URL.

    Raises:
        ExportError: fsspec does not know the scheme, what it needs for it is not installed, or an option is wrong.
    """
    scheme = url.split(":", 1)[0].lower()
    address = without_secrets(url).rstrip("/")
    if address != url.rstrip("/") and scheme in _WITHOUT_FOLDERS:
        raise ExportError(
            f"{address}: no name and no password belong into the URL; credentials come by the environment"
        )
    values = dict(options.values)
    if options.endpoint_url:
        if scheme not in _ENDPOINT:
            raise ExportError(
                f"--endpoint-url is for {', '.join(f'{each}://' for each in sorted(_ENDPOINT))}; "
                f"for {scheme}:// say it with --storage-option, as its fsspec file system calls it"
            )
        values[_ENDPOINT[scheme]] = options.endpoint_url
        # gcsfs would ask over gRPC with TLS what kind of bucket it is; a service of one's own has that seldom, and it
        # takes half a minute to give up. Read once, when gcsfs is imported.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # Instances and listings are kept for a process's life by default, and --watch lives long.
    values |= {"skip_instance_cache": True, "use_listings_cache": False}
    with speaking_of(address):
        files, root = fsspec.core.url_to_fs(url, **values)
    if not str(root).strip("/") and scheme in _WITHOUT_FOLDERS:
        raise ExportError(f"{address} names no bucket; expected {scheme}://bucket/models/digits")
    return RemoteStore(address=address, files=files, root=str(root).rstrip("/"), scheme=scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStore:
    """A folder of an fsspec file system.

    Attributes:
        address: Its URL.
        files: The file system.
        root: The folder as the file system calls it.
        scheme: Of the URL.
    """

    address: str
    files: Any
    root: str
    scheme: str

    @property
    def is_parallel(self) -> bool:
        """Those that are asynchronous inside take calls from several threads; of others nobody promises it."""
        return bool(self.files.async_impl)

    def below(self, name: str) -> RemoteStore:
        """Give a folder in it."""
        return RemoteStore(
            address=f"{self.address}/{name}", files=self.files, root=f"{self.root}/{name}", scheme=self.scheme
        )

    def list_files(self) -> dict[str, Entry]:
        """List the files at any depth; the empty objects that some tools put for folders are none."""
        with speaking_of(self.address):
            try:
                found = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
        return {
            name: read_entry(told)
            for path, told in found.items()
            if (name := self._relative(path)) and not (path.endswith("/") and not told.get("size"))
        }

    def list_children(self) -> list[str]:
        """List the names right in it."""
        with speaking_of(self.address):
            try:
                found = self.files.ls(self.root, detail=False)
            except FileNotFoundError:
                return []
        return sorted({name for path in found if (name := self._relative(path).rstrip("/"))})

    def _relative(self, path: str) -> str:
        """Name a listed path relative to the folder; one that is not below it stays whole, to be refused."""
        root = self.root.strip("/")
        whole = path.lstrip("/")
        return whole[len(root) :].lstrip("/") if whole == root or whole.startswith(f"{root}/") else path

    def read(self, name: str) -> bytes | None:
        """Read a small file."""
        with speaking_of(f"{self.address}/{name}"):
            try:
                return bytes(self.files.cat_file(f"{self.root}/{name}"))
            except FileNotFoundError:
                return None

    def fetch(self, name: str, path: Path, on_bytes: OnBytes) -> None:
        """Copy a file to a path."""
        with speaking_of(f"{self.address}/{name}"):
            self.files.get_file(f"{self.root}/{name}", str(path), callback=_callback(on_bytes))

    def put(self, name: str, path: Path, on_bytes: OnBytes, *, is_new: bool) -> None:
        """Copy a file into it.

        Raises:
            FileExistsError: It must be new and is there; stores that cannot tell overwrite it.
            ExportError: The store refused.
        """
        target = f"{self.root}/{name}"
        options: dict[str, Any] = {"callback": _callback(on_bytes)}
        with speaking_of(f"{self.address}/{name}"):
            if self.scheme in _WITHOUT_FOLDERS:
                options["chunksize"] = PART_BYTES
                is_new = is_new and "mode" in inspect.signature(self.files._put_file).parameters
            else:
                self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
                is_new = False
            if is_new and self._put_new(target, path, options):
                return
            self.files.put_file(str(path), target, **options)

    def _put_new(self, target: str, path: Path, options: dict[str, Any]) -> bool:
        """Put a file that must not be there; False where the store does not know such a thing."""
        try:
            self.files.put_file(str(path), target, mode="create", **options)
        except OSError as error:
            if error.errno == ENOSYS:
                return False
            if error.errno == EINVAL and self.files.exists(target):  # s3fs's word for "precondition failed"
                raise FileExistsError(target) from error
            raise
        return True


def _callback(on_bytes: OnBytes) -> Any:
    class Callback(fsspec.callbacks.Callback):  # type: ignore[misc]
        """Hands bytes on as they travel."""

        _reached = 0

        def relative_update(self, inc: int = 1) -> None:
            on_bytes(inc)

        def absolute_update(self, value: int) -> None:
            on_bytes(value - self._reached)
            self._reached = value

    return Callback()

"""A file here against what a store says of its copy, without reading the copy back.

S3 gives an ETag: the MD5 of an object that came in one piece, and for one that came in parts the MD5 of the parts'
MD5s with their number behind a dash. With a customer's own encryption key it is neither, so another ETag proves
nothing. Google gives the MD5 itself.

Source: docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html; cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: How large parts of an upload in parts are: what s3fs and gcsfs take, said to them so that an ETag can be foretold.
PART_BYTES = 50 << 20

_BLOCK_BYTES = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}")
_PARTS = re.compile(r"[0-9a-f]{32}-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in a store.

    Attributes:
        size: In bytes.
        md5: Of its content, in hex; "" where the store does not give it.
        etag: What S3 calls so; "" elsewhere.
    """

    size: int
    md5: str = ""
    etag: str = ""

    @property
    def is_as_pushed(self) -> bool:
        """Whether the ETag has the form that it has after a push: that of an MD5, or of as many parts as we make."""
        parts = _PARTS.fullmatch(self.etag)
        return bool(_MD5.fullmatch(self.etag)) or (parts is not None and int(parts[1]) == -(-self.size // PART_BYTES))


def read_entry(told: Mapping[str, Any]) -> Entry:
    """Read what fsspec tells of a file; stores differ in the names."""
    md5 = ""
    with suppress(ValueError):
        md5 = base64.b64decode(str(told.get("md5Hash", "")), validate=True).hex()
    return Entry(size=int(told.get("size") or 0), md5=md5, etag=str(told.get("ETag", "")).strip('"'))


def agrees(entry: Entry, path: Path) -> bool | None:
    """Tell whether a store's file has the content of one here.

    Returns:
        None where only the content itself could tell: sizes are equal, and the store gives no hash that counts.
    """
    if entry.size != path.stat().st_size:
        return False
    if entry.md5:
        return entry.md5 == _md5(path)
    if _MD5.fullmatch(entry.etag):
        return True if entry.etag == _md5(path) else None
    if _PARTS.fullmatch(entry.etag):
        return True if entry.etag == _etag_of_parts(path) else None
    return None


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _etag_of_parts(path: Path) -> str:
    of_parts = []
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            of_parts.append(hashlib.md5(part, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(of_parts), usedforsecurity=False).hexdigest()}-{len(of_parts)}"

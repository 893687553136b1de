"""API keys: who may ask, for a server that is reachable by more than those who should. TensorFlow Serving has none.

A client sends one of the keys of --api_key_file, over REST and gRPC alike, in one of these headers:

    Authorization: Bearer KEY
    X-API-Key: KEY
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path

from tfbundle_serving.apis.errors import InvalidArgument, NotFound

#: What a request without a key is told, and one whose key is not among ours.
NO_KEY = "this server needs an API key: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
UNKNOWN_KEY = "this server does not know the API key that was sent; ask whoever runs it for one that it knows"

_BEARER = b"bearer "


def read_api_keys(path: Path) -> tuple[str, ...]:
    """Read a file of keys: one a line; empty lines and lines that begin with # do not count.

    Raises:
        NotFound: The file is missing or cannot be read.
        InvalidArgument: It holds no key, or one that no header can carry.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: {error}") from error
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise InvalidArgument(f"{path} holds no API key; write one a line")
    for number, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InvalidArgument(f"{path}: key {number} has characters that no header can carry")
    return keys


class ApiKeys:
    """The keys that are accepted.

    Args:
        keys: At least one.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def refusal(self, headers: Iterable[tuple[str | bytes, str | bytes]]) -> str:
        """Say why headers, their names in lower case, open nothing; "" where they carry a key that is accepted."""
        sent = [key for key in map(_key_in, headers) if key]
        if not sent:
            return NO_KEY
        return "" if any(map(self._is_known, sent)) else UNKNOWN_KEY

    def _is_known(self, key: bytes) -> bool:
        # Digests are equally long and every one is compared, so the time taken says nothing about a key.
        given = _digest(key)
        return sum(hmac.compare_digest(given, known) for known in self._digests) > 0


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _key_in(header: tuple[str | bytes, str | bytes]) -> bytes:
    name, value = (each.encode() if isinstance(each, str) else each for each in header)
    if name == b"x-api-key":
        return value.strip()
    if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
        return value[len(_BEARER) :].strip()
    return b""

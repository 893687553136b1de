"""How a client reaches its servers: credentials, encryption, compression, and objects of the caller's own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tfbundle_serving.apis.errors import InvalidArgument

if TYPE_CHECKING:
    import aiohttp
    import grpc
    import grpc.aio
    import requests

#: A PEM file's path, or its content as bytes.
Pem = str | os.PathLike[str] | bytes

ChannelOptions = Mapping[str, int | str]

#: What both HTTP and gRPC metadata allow; gRPC's names that end in -bin are left out, since HTTP has none such.
_HEADER_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that would fail with every request.

    Raises:
        InvalidArgument: A name or value is none that both HTTP and gRPC could carry.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower().endswith("-bin") or not _HEADER_VALUE.fullmatch(value):
            raise InvalidArgument(f"header {name!r} is none that HTTP and gRPC could carry", attempts=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom a client trusts and who it is; for grpcs:// and https:// (and for unix: and dns:, which then are encrypted).

    Attributes:
        ca: Certificates of the authorities that the server's one may be signed by; None means the usual public ones.
        cert: The client's own certificate and those that lead from it to an authority, for servers that ask for one.
        key: The private key of `cert`, without a password.
    """

    ca: Pem | None = field(default=None, repr=False)
    cert: Pem | None = field(default=None, repr=False)
    key: Pem | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse half a pair."""
        if (self.cert is None) != (self.key is None):
            raise InvalidArgument("a client certificate and its key go together; got one of them", attempts=0)

    def read(self, name: Literal["ca", "cert", "key"]) -> bytes | None:
        """Give the PEM text of one of the three.

        Raises:
            InvalidArgument: The file cannot be read, or what is there is no PEM.
        """
        value: Pem | None = getattr(self, name)
        if value is None:
            return None
        if isinstance(value, bytes):
            content, where = value, f"the bytes given as {name}"
        else:
            where = f"{name} {os.fspath(value)!r}"
            try:
                content = Path(value).read_bytes()
            except OSError as error:
                raise InvalidArgument(f"tls: {where} cannot be read: {error.strerror}", attempts=0) from error
        if b"-----BEGIN " not in content:
            raise InvalidArgument(f"tls: {where} is not PEM: it has no -----BEGIN line", attempts=0)
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Everything about the way to a server but its address.

    Attributes:
        headers: Sent with every request, as HTTP headers or as gRPC metadata.
        bearer_token: Sent as `authorization: Bearer ...`; a function is asked before each request, so that it can hand
            out a new token when the old one expires. It should be quick, and must be safe to call from several threads.
        tls: Certificates; None means no client certificate and the usual public authorities.
        compression: "gzip" compresses requests. It costs more time than it saves unless the link is slow.
        channel_options: gRPC channel arguments, added to or replacing our own.
        session: A requests.Session (an aiohttp.ClientSession for the async client) to use instead of an own one.
        channel: A grpc.Channel (a grpc.aio.Channel for the async client) to use instead of an own one.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer_token: str | Callable[[], str] | None = field(default=None, repr=False)
    tls: Tls | None = None
    compression: Literal["gzip"] | None = None
    channel_options: ChannelOptions = field(default_factory=dict)
    session: requests.Session | aiohttp.ClientSession | None = None
    channel: grpc.Channel | grpc.aio.Channel | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail with every request."""
        check_headers(self.headers)
        if self.bearer_token is not None and any(name.lower() == "authorization" for name in self.headers):
            raise InvalidArgument("give a bearer_token or an authorization header, not both", attempts=0)
        if self.compression not in (None, "gzip"):
            raise InvalidArgument(f"compression is 'gzip' or None, got {self.compression!r}", attempts=0)
        if self.channel is not None and (self.tls is not None or self.channel_options):
            raise InvalidArgument("a channel that is given has its own TLS and options", attempts=0)
        if self.session is not None and self.tls is not None:
            raise InvalidArgument("a session that is given has its own TLS settings", attempts=0)

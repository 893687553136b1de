"""Server addresses: grpc://host:port, http://host:port, https://host:port[/prefix]."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tfbundle_serving.apis.errors import InvalidArgument

_FORMS = "grpc://host:port (TensorFlow Serving's --port) or http://host:port (its --rest_api_port)"
#: Scheme to the name of the transport behind it.
_TRANSPORTS = {"grpc": "gRPC", "http": "REST", "https": "REST"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens.

    Attributes:
        url: The address as the caller wrote it, without a slash at the end; messages name it.
        transport: "gRPC" or "REST".
        target: host:port, as gRPC wants it.
    """

    url: str
    transport: str
    target: str

    def __str__(self) -> str:
        """Name the address in a message."""
        return self.url


def parse_address(url: str) -> Address:
    """Read a server's address.

    Raises:
        InvalidArgument: The scheme, the host or (for gRPC) the port is missing or unknown.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"not a server address: {url!r} ({error}); expected {_FORMS}", attempts=0) from error
    transport = _TRANSPORTS.get(parts.scheme)
    if transport is None or not parts.hostname:
        raise InvalidArgument(f"not a server address: {url!r}; expected {_FORMS}", attempts=0)
    if parts.query or parts.fragment or (transport == "gRPC" and parts.path.strip("/")):
        raise InvalidArgument(f"{url!r} says more than an address; expected {_FORMS}", attempts=0)
    if transport == "gRPC" and port is None:
        raise InvalidArgument(f"{url!r} names no port; expected {_FORMS}", attempts=0)
    return Address(url=url.rstrip("/"), transport=transport, target=parts.netloc.rpartition("@")[2])

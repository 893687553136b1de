"""Server addresses.

grpc://host:8500              gRPC            grpcs://host:8500             over TLS
http://host:8501              REST            https://host[:port][/prefix]  over TLS
unix:/run/model.sock          gRPC over a UNIX socket
dns:///name:8500              gRPC, balanced between all addresses that the name has
grpc://a:8500,b:8500          several servers with the same models, used in turn; so with all schemes but dns, unix
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from tfbundle_serving.apis.errors import InvalidArgument

_FORMS = (
    "grpc://host:port (TensorFlow Serving's --port) or http://host:port (its --rest_api_port), "
    "grpcs:// or https:// where it has TLS, unix:/path or dns:///name:port"
)
#: Scheme to the name of the transport behind it, and whether it is encrypted; None leaves that to the settings.
_SCHEMES: dict[str, tuple[str, bool | None]] = {
    "grpc": ("gRPC", False),
    "grpcs": ("gRPC", True),
    "http": ("REST", False),
    "https": ("REST", True),
    "unix": ("gRPC", None),
    "dns": ("gRPC", None),
    "local": ("local", None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One server.

    Attributes:
        url: Its address, without a slash at the end; messages name it.
        target: Its address as gRPC wants it, such as host:port; host and port for REST.
    """

    url: str
    target: str

    def __str__(self) -> str:
        """Name the server in a message."""
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one or several servers listen.

    Attributes:
        url: The address as the caller wrote it, without a slash at the end.
        transport: "gRPC", "REST" or "local".
        is_secure: Whether TLS is wanted; None where the address does not say.
        endpoints: The servers; at least one.
    """

    url: str
    transport: str
    is_secure: bool | None = False
    endpoints: tuple[Endpoint, ...]

    @property
    def target(self) -> str:
        """The first server's target."""
        return self.endpoints[0].target

    def __str__(self) -> str:
        """Name the address in a message."""
        return self.url


def parse_address(url: str) -> Address:
    """Read an address.

    Raises:
        InvalidArgument: The scheme, the host or (for gRPC) the port is missing or unknown.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in _SCHEMES:
        raise _refused(url)
    transport, is_secure = _SCHEMES[scheme]
    if is_secure is None:
        endpoints: tuple[Endpoint, ...] = (_parse_special(url, scheme),)
    else:
        if not rest.startswith("//"):
            raise _refused(url)
        # The scheme may be repeated: http://a:1,http://b:1
        parts = [part.removeprefix(f"{scheme}://") for part in rest[2:].split(",")]
        endpoints = tuple(dict.fromkeys(_parse_endpoint(f"{scheme}://{part}", url, transport) for part in parts))
    return Address(url=url.rstrip("/"), transport=transport, is_secure=is_secure, endpoints=endpoints)


def _parse_special(url: str, scheme: str) -> Endpoint:
    if scheme == "local":
        path = url.removeprefix("local:").removeprefix("//")
        if not path:
            raise _refused(url, ": local: is followed by the path of a folder of models or versions")
        return Endpoint(url=url, target=path)
    if scheme == "unix":
        path = url.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise _refused(url, ": the path of a UNIX socket starts with a slash")
        return Endpoint(url=url, target=f"unix:{path}")
    parts = _split(url, url)
    name, _, port = parts.path.removeprefix("/").rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _refused(url, ": dns needs three slashes, a name and a port")
    return Endpoint(url=url, target=url)


def _parse_endpoint(url: str, whole: str, transport: str) -> Endpoint:
    parts = _split(url, whole)
    if not parts.hostname:
        raise _refused(whole)
    if "@" in parts.netloc:
        raise InvalidArgument("an address does not carry credentials; use bearer_token or headers", attempts=0)
    if parts.query or parts.fragment or (transport == "gRPC" and parts.path.strip("/")):
        raise InvalidArgument(f"{whole!r} says more than an address; expected {_FORMS}", attempts=0)
    if transport == "gRPC" and parts.port is None:
        raise InvalidArgument(f"{whole!r} names no port; expected {_FORMS}", attempts=0)
    return Endpoint(url=url.rstrip("/"), target=parts.netloc)


def _split(url: str, whole: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is read, and refused, only when it is asked for
    except ValueError as error:
        raise _refused(whole, f" ({error})") from error
    return parts


def _refused(url: str, why: str = "") -> InvalidArgument:
    return InvalidArgument(f"not a server address: {url!r}{why}; expected {_FORMS}", attempts=0)

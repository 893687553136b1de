"""Whether a load may be sent to an address: to this machine always, to another one when its owner says so."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from tfbundle_serving.apis.errors import ConnectionFailed, InvalidArgument

from ..transports.address import Address, Endpoint


def check_is_local(address: Address) -> None:
    """Refuse an address whose name stands for any other machine than this one.

    Raises:
        InvalidArgument: It does; the message names the machine.
        ConnectionFailed: The name stands for nothing.
    """
    for endpoint in address.endpoints:
        host = _host(endpoint)
        if host is None:
            continue
        for found in _resolve(host, endpoint):
            if not _is_loopback(found):
                named = found if found == host else f"{host} ({found})"
                raise InvalidArgument(
                    f"{endpoint} is not this machine but {named}; a load test may keep others from being served: "
                    "--allow-remote sends it all the same",
                    attempts=0,
                )


def _host(endpoint: Endpoint) -> str | None:
    """Give the host name of a server; None for a UNIX socket."""
    if endpoint.target.startswith("unix:"):
        return None
    # dns:///name:port names no authority, so its name stands in the path.
    target = endpoint.target.rpartition("/")[2]
    return urlsplit(f"//{target}").hostname or ""


def _resolve(host: str, endpoint: Endpoint) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(
            f"no connection to {endpoint}: {host!r} names no machine ({error})", attempts=0
        ) from None
    return sorted({str(each[4][0]) for each in found})


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)

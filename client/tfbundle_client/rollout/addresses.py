"""From the addresses of a command to the single servers behind them, each with a client of its own.

`grpc://a:8500,b:8500` is two servers here, and `dns:///name:8500` one for each address that the name has now.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument, RolloutError

from ..client import Client
from ..transports.address import Endpoint, parse_address
from .fleet import Fleet
from .server import Server

_EXPECTED = "expected grpc://host:port, grpcs://host:port, dns:///name:port or unix:/path"


@contextmanager
def open_fleet(
    urls: Iterable[str], *, access_of: Callable[[str], Mapping[str, Any]] | None = None, timeout_s: float = 60.0
) -> Iterator[Fleet]:
    """Make a client for each server behind some addresses; nothing is sent yet, but names are looked up.

    Args:
        urls: Addresses, as `Client` takes them; over gRPC.
        access_of: Gives the keyword arguments of `Client` that go with an address: headers, bearer_token, tls.
        timeout_s: Seconds for a single question.

    Raises:
        InvalidArgument: An address is none, or one over REST, which has no reload.
        RolloutError: A name has no address.
    """
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for url in urls:
            access = {} if access_of is None else dict(access_of(url))
            for each, options in _single_servers(url, is_tls_given=access.get("tls") is not None):
                if each not in servers:
                    client = stack.enter_context(Client(each, timeout=timeout_s, channel_options=options, **access))
                    servers[each] = Server(url=each, client=client)
        yield Fleet(tuple(servers.values()))


def _single_servers(url: str, *, is_tls_given: bool) -> Iterator[tuple[str, dict[str, int | str]]]:
    """List the servers behind an address, each with the channel arguments that it needs."""
    address = parse_address(url)
    if address.transport != "gRPC":
        kind = "REST has no reload" if address.transport == "REST" else "a folder is no server"
        raise InvalidArgument(f"{url} cannot be given another list of models, {kind}; {_EXPECTED}", attempts=0)
    if not url.startswith("dns:"):
        for endpoint in address.endpoints:
            yield endpoint.url, {}
        return
    (endpoint,) = address.endpoints
    name, ips, port = _resolve(endpoint)
    # The certificate is the name's, not the address's.
    options: dict[str, int | str] = {"grpc.default_authority": f"{name}:{port}"}
    if is_tls_given:
        options["grpc.ssl_target_name_override"] = name
    for ip in ips:
        host = f"[{ip}]" if ":" in ip else ip
        yield f"{'grpcs' if is_tls_given else 'grpc'}://{host}:{port}", options


def _resolve(endpoint: Endpoint) -> tuple[str, Sequence[str], int]:
    name, _, port = endpoint.target.rpartition("/")[2].rpartition(":")
    host = name.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise RolloutError(f"{endpoint.url}: the name {host} has no address: {error.strerror or error}") from error
    return host, sorted({str(each[4][0]) for each in found}), int(port)

"""From an address and settings to the transport that goes with them; each is imported when it is wanted."""

from __future__ import annotations

from typing import Literal

from tfbundle_serving.apis.errors import InvalidArgument

from .address import Address
from .connection import Connection
from .transport import AsyncTransport, Transport


def open_transport(address: Address, connection: Connection) -> Transport:
    """Make the blocking transport of an address; it connects when it is first used.

    Raises:
        InvalidArgument: The settings do not go with the address, or a certificate cannot be read.
    """
    if address.transport == "local":
        _check_local(address, connection)
        from ..local.transport import LocalTransport

        return LocalTransport(address.target)
    _check(address, connection, "Client")
    if address.transport == "gRPC":
        from .grpc_transport import GrpcTransport

        return GrpcTransport(address, connection)
    from .rest_transport import RestTransport

    return RestTransport(address, connection)


def open_async_transport(address: Address, connection: Connection) -> AsyncTransport:
    """Make the transport of an address for event loops; it connects when it is first used, once in each loop.

    Raises:
        InvalidArgument: The settings do not go with the address, or a certificate cannot be read.
    """
    if address.transport == "local":
        _check_local(address, connection)
        from ..local.transport import LocalAsyncTransport

        return LocalAsyncTransport(address.target)
    _check(address, connection, "AsyncClient")
    if address.transport == "gRPC":
        from .grpc_aio_transport import GrpcAioTransport

        return GrpcAioTransport(address, connection)
    from .rest_aio_transport import RestAioTransport

    return RestAioTransport(address, connection)


def _check_local(address: Address, connection: Connection) -> None:
    if connection.session is not None or connection.channel is not None or connection.tls is not None:
        raise InvalidArgument(f"a session, a channel or TLS does not go with {address}: it is no server", attempts=0)


def _check(address: Address, connection: Connection, client: Literal["Client", "AsyncClient"]) -> None:
    if address.transport == "gRPC":
        if connection.session is not None:
            raise InvalidArgument(f"a session does not go with {address}", attempts=0)
        if connection.channel is not None and len(address.endpoints) > 1:
            raise InvalidArgument(f"one channel does not go with the several servers of {address}", attempts=0)
    elif connection.channel is not None or connection.channel_options:
        raise InvalidArgument(f"a gRPC channel does not go with {address}", attempts=0)
    if connection.tls is not None and address.is_secure is False:
        scheme = "grpcs" if address.transport == "gRPC" else "https"
        raise InvalidArgument(f"TLS does not go with {address}; use {scheme}://", attempts=0)
    for given in (connection.session, connection.channel):
        wanted = _class_to_be_given(client, address.transport) if given is not None else object
        if not isinstance(given, wanted):
            name = f"{wanted.__module__}.{wanted.__qualname__}"
            raise InvalidArgument(f"{client} over {address.transport} takes a {name}, got {type(given)}", attempts=0)


def _class_to_be_given(client: Literal["Client", "AsyncClient"], transport: str) -> type:
    """Name the class of a session or channel; who gives one has it imported already."""
    if transport == "gRPC":
        import grpc.aio

        kind: type = grpc.Channel if client == "Client" else grpc.aio.Channel
        return kind
    if client == "Client":
        import requests

        return requests.Session
    import aiohttp

    return aiohttp.ClientSession

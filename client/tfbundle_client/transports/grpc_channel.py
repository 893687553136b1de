"""With what gRPC channels are made, blocking ones and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .address import Address
from .connection import ChannelOptions, Connection, Tls
from .tls import grpc_credentials

if TYPE_CHECKING:
    import grpc

#: What a channel is made with unless the caller says otherwise.
DEFAULT_CHANNEL_OPTIONS: ChannelOptions = {
    # The limit of 4 MiB is the client's alone; TensorFlow Serving takes and gives 2 GiB.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # The client retries by itself, for gRPC's own retries end without a word where a request has 256 KiB.
    "grpc.enable_retries": 0,
    "grpc.primary_user_agent": "tfbundle-client",
    # Servers cut off clients that ping an idle connection more often than every five minutes.
    "grpc.keepalive_time_ms": 300_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 0,
    # Channels of one process share connections by address; a forked child would be handed its parent's.
    "grpc.use_local_subchannel_pool": 1,
    # The default grows to two minutes, in which a server that is back would go unnoticed.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
}
#: With several servers, a host that does not even refuse must not hold a call for gRPC's 20 seconds.
_SEVERAL_OPTIONS: ChannelOptions = {"grpc.min_reconnect_backoff_ms": 2_000}
#: A name that is asked for by dns: is one for several servers.
_DNS_OPTIONS: ChannelOptions = {"grpc.lb_policy_name": "round_robin"}
#: A UNIX socket has no name that a certificate could be for, unless the caller gives one.
_UNIX_OPTIONS: ChannelOptions = {"grpc.ssl_target_name_override": "localhost"}
#: First letters of a target to the options that go with it.
_OPTIONS_BY_TARGET = {"dns:": _DNS_OPTIONS, "unix:": _UNIX_OPTIONS}


class ChannelSettings:
    """What all channels of a client share, read once: certificates too, so that a bad path shows at the start."""

    def __init__(self, address: Address, connection: Connection) -> None:
        options = dict(DEFAULT_CHANNEL_OPTIONS)
        if len(address.endpoints) > 1:
            options.update(_SEVERAL_OPTIONS)
        for start, more in _OPTIONS_BY_TARGET.items():
            if address.target.startswith(start):
                options.update(more)
        self.options = list({**options, **connection.channel_options}.items())
        self.credentials: grpc.ChannelCredentials | None = None
        if address.is_secure or (address.is_secure is None and connection.tls is not None):
            self.credentials = grpc_credentials(connection.tls or Tls())
        self._compression = connection.compression

    def call_options(self) -> dict[str, Any]:
        """Give the keyword arguments that go with each call: none as a rule, for each costs time."""
        if self._compression is None:
            return {}
        import grpc

        return {"compression": grpc.Compression.Gzip}

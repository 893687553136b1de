"""Blocking gRPC channels as a transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import ApiError, ConnectionFailed, DeadlineExceeded, FailedPrecondition

from .address import Address, Endpoint
from .connection import Connection
from .grpc_channel import ChannelSettings
from .grpc_messages import METHODS, Method, note_pushback, read_failure
from .messages import late, read, write
from .per_process import CLOSED, PerProcess
from .replicas import Replicas
from .request_headers import RequestHeaders
from .transport import Call, Reply

if TYPE_CHECKING:
    import grpc


class GrpcTransport:
    """One channel to each server, opened when first used and again in each forked process."""

    name = "gRPC"
    names_version = True

    def __init__(self, address: Address, connection: Connection) -> None:
        self._endpoints = address.endpoints
        self._headers = RequestHeaders(connection)
        self._settings = ChannelSettings(address, connection)
        self._given: Any = connection.channel
        self._channels: PerProcess[_Channels] = PerProcess(self._open, _Channels.close)

    def _open(self) -> _Channels:
        return _Channels([self._open_channel(endpoint) for endpoint in self._endpoints], is_ours=self._given is None)

    def _open_channel(self, endpoint: Endpoint) -> _Channel:
        import grpc

        channel = self._given
        if channel is None and self._settings.credentials is not None:
            channel = grpc.secure_channel(endpoint.target, self._settings.credentials, self._settings.options)
        elif channel is None:
            channel = grpc.insecure_channel(endpoint.target, self._settings.options)
        return _Channel(endpoint, channel, self._settings.call_options(), grpc.RpcError)

    def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply; see `Transport`.

        A server that cannot be reached is passed over for the next one, each at most once.
        """
        method = METHODS[type(call)]
        request = write(method.build, call)
        headers = self._headers.of(call)
        replicas = self._channels.get().replicas
        failed: ConnectionFailed | None = None
        for number, channel in replicas.order():
            if failed is not None and call.deadline.has_passed:
                break
            try:
                body = channel.ask(method, request, headers, call)
            except ConnectionFailed as error:
                replicas.failed(number)
                failed = error
                continue
            except DeadlineExceeded:
                replicas.failed(number)
                raise
            except ApiError:
                replicas.worked(number)
                raise
            replicas.worked(number)
            reply: Reply = read(method.read, body, call, channel.endpoint)
            return reply
        assert failed is not None, "there is at least one server"
        raise failed

    def close(self) -> None:
        """Close the channels, unless they are the caller's."""
        self._channels.close()


class _Channel:
    """One channel with its callables, which grpc would otherwise make anew for each call."""

    def __init__(self, endpoint: Endpoint, channel: grpc.Channel, options: dict[str, Any], rpc_error: Any) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self._options = options
        self._rpc_error = rpc_error
        self._rpcs = {method.path: channel.unary_unary(method.path) for method in METHODS.values()}

    def ask(self, method: Method, request: bytes, headers: Any, call: Call[Any]) -> bytes:
        """Send a request and wait for the reply's bytes."""
        left_s = call.deadline.remaining_s()
        if left_s == 0.0:
            raise late(call, self.endpoint)
        try:
            body: bytes = self._rpcs[method.path](request, timeout=left_s, metadata=headers, **self._options)
        except self._rpc_error as error:
            failure = read_failure(error.code().value[0], error.details() or "", call, self.endpoint)
            note_pushback(failure, error.trailing_metadata())
            raise failure from None
        except ValueError as error:
            if "closed channel" not in str(error):
                raise
            # Another thread closed it in this moment.
            raise FailedPrecondition(CLOSED, attempts=0) from error
        return body


class _Channels:
    """The channels of one process."""

    def __init__(self, channels: Sequence[_Channel], *, is_ours: bool) -> None:
        self.replicas = Replicas(channels)
        self._is_ours = is_ours

    def close(self) -> None:
        if self._is_ours:
            for each in self.replicas.members:
                each.channel.close()

"""gRPC channels of an event loop as a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import ApiError, Cancelled, ConnectionFailed, DeadlineExceeded, FailedPrecondition

from .address import Address, Endpoint
from .connection import Connection
from .grpc_channel import ChannelSettings
from .grpc_messages import METHODS, Method, note_pushback, read_failure
from .messages import failure, late, read, write
from .per_loop import PerLoop
from .per_process import CLOSED
from .replicas import Replicas
from .request_headers import RequestHeaders
from .transport import Call, Reply

if TYPE_CHECKING:
    import grpc.aio


class GrpcAioTransport:
    """One channel to each server, opened when first used and again in each event loop."""

    name = "gRPC"
    names_version = True

    def __init__(self, address: Address, connection: Connection) -> None:
        self._endpoints = address.endpoints
        self._headers = RequestHeaders(connection)
        self._settings = ChannelSettings(address, connection)
        self._given: Any = connection.channel
        self._channels: PerLoop[_Channels] = PerLoop(self._open, _Channels.close)

    def _open(self) -> _Channels:
        return _Channels([self._open_channel(endpoint) for endpoint in self._endpoints], is_ours=self._given is None)

    def _open_channel(self, endpoint: Endpoint) -> _Channel:
        import grpc.aio

        channel = self._given
        if channel is None and self._settings.credentials is not None:
            channel = grpc.aio.secure_channel(endpoint.target, self._settings.credentials, self._settings.options)
        elif channel is None:
            channel = grpc.aio.insecure_channel(endpoint.target, self._settings.options)
        return _Channel(endpoint, channel, self._settings.call_options())

    async def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply; see `GrpcTransport.send`."""
        method = METHODS[type(call)]
        request = write(method.build, call)
        headers = self._headers.of(call)
        replicas = self._channels.get().replicas
        failed: ConnectionFailed | None = None
        for number, channel in replicas.order():
            if failed is not None and call.deadline.has_passed:
                break
            try:
                body = await channel.ask(method, request, headers, call)
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

    async def close(self) -> None:
        """Close the channels of this event loop, unless they are the caller's."""
        await self._channels.close()


class _Channel:
    """One channel with its callables."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, options: dict[str, Any]) -> None:
        import grpc.aio

        self.endpoint = endpoint
        self.channel = channel
        self.is_closing = False
        self._options = options
        self._rpc_error = grpc.aio.AioRpcError
        self._usage_error = grpc.aio.UsageError
        self._rpcs = {method.path: channel.unary_unary(method.path) for method in METHODS.values()}

    async def ask(self, method: Method, request: bytes, headers: Any, call: Call[Any]) -> bytes:
        """Send a request and wait for the reply's bytes."""
        left_s = call.deadline.remaining_s()
        if left_s == 0.0:
            raise late(call, self.endpoint)
        try:
            body: bytes = await self._rpcs[method.path](
                request, timeout=left_s, metadata=headers or None, **self._options
            )
        except self._rpc_error as error:
            refusal = read_failure(error.code().value[0], error.details() or "", call, self.endpoint)
            note_pushback(refusal, tuple(error.trailing_metadata() or ()))
            raise refusal from None
        except asyncio.CancelledError:
            # grpc cancels the calls of a channel that is closed; nobody cancelled the task that waits for one.
            if not self.is_closing or _is_cancelled():
                raise
            raise failure(Cancelled, CLOSED, call) from None
        except self._usage_error as error:  # another task closed the channel before
            raise FailedPrecondition(CLOSED, attempts=0) from error
        return body


class _Channels:
    """The channels of one event loop."""

    def __init__(self, channels: Sequence[_Channel], *, is_ours: bool) -> None:
        self.replicas = Replicas(channels)
        self._is_ours = is_ours

    async def close(self) -> None:
        if self._is_ours:
            for each in self.replicas.members:
                each.is_closing = True
                await each.channel.close()


def _is_cancelled() -> bool:
    """Whether somebody cancelled this task; before Python 3.11 a task does not tell."""
    task = asyncio.current_task()
    return task is not None and hasattr(task, "cancelling") and task.cancelling() > 0

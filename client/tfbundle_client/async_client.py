"""The asynchronous client: it drives the same flows over a transport for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from tfbundle_serving.apis.errors import BundleError

from .batches.flow import BatchPrediction, Stream
from .batches.run import run_async
from .calls.flows import Flow, Pause, Result
from .client_base import ClientBase
from .dressing import dress
from .transports.address import Address
from .transports.connection import Connection
from .transports.opening import open_async_transport
from .transports.transport import AsyncTransport

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


async def drive_async(flow: Flow[Result], transport: AsyncTransport) -> Result:
    """Do what a flow asks for, step by step, until it returns; see `client.drive`."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                step = flow.send(None)
                continue
            try:
                reply = await transport.send(step)
            except BundleError as error:
                step = flow.throw(error)
            else:
                step = flow.send(reply)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        flow.close()


def awaited(
    ask: Callable[Concatenate[ClientBase, _Arguments], Flow[_Answer]],
) -> Callable[Concatenate[AsyncClient, _Arguments], Coroutine[Any, Any, _Answer]]:
    """Make the coroutine method that asks, and gives the answer."""

    async def method(self: AsyncClient, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        return await drive_async(ask(self, *args, **kwargs), self._transport)

    dress(method, ask)
    method.__qualname__ = f"AsyncClient.{method.__name__}"
    return method


def streamed(
    ask: Callable[Concatenate[ClientBase, _Arguments], Flow[Stream]],
) -> Callable[Concatenate[AsyncClient, _Arguments], AsyncGenerator[BatchPrediction, None]]:
    """Make the method that asks for the batches of a stream, and gives an asynchronous iterator over the answers."""

    def method(
        self: AsyncClient, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> AsyncGenerator[BatchPrediction, None]:
        flow = ask(self, *args, **kwargs)

        async def answers() -> AsyncGenerator[BatchPrediction, None]:
            stream = await drive_async(flow, self._transport)
            async with aclosing(
                run_async(stream, lambda batch: drive_async(stream.answer(batch), self._transport))
            ) as found:
                async for each in found:
                    yield each

        return answers()

    dress(method, ask, "AsyncIterator[BatchPrediction]")
    method.__qualname__ = f"AsyncClient.{method.__name__}"
    return method


class AsyncClient(ClientBase):
    """The client for event loops: the methods of `Client`, to be awaited.

    async with AsyncClient("grpc://localhost:8500") as client:
        r = await client.predict("digits", images)
        r["probabilities"], r.version
    """

    _transport: AsyncTransport

    def _open(self, address: Address, connection: Connection) -> AsyncTransport:
        return open_async_transport(address, connection)

    predict = awaited(ClientBase._ask_predict)
    predict_batches = streamed(ClientBase._ask_predict_batches)
    classify = awaited(ClientBase._ask_classify)
    regress = awaited(ClientBase._ask_regress)
    multi_inference = awaited(ClientBase._ask_multi_inference)
    metadata = awaited(ClientBase._ask_metadata)
    status = awaited(ClientBase._ask_status)
    wait_until_available = awaited(ClientBase._ask_wait_until_available)
    health = awaited(ClientBase._ask_health)
    health_list = awaited(ClientBase._ask_health_list)
    reload_config = awaited(ClientBase._ask_reload_config)

    async def close(self) -> None:
        """Close the connections; a session or channel that was given stays open, and so do those of `with_options`."""
        self._is_closed = True
        if not self._is_copy:
            await self._transport.close()

    aclose = close

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

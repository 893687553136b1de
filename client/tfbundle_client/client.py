"""The blocking client: it drives the flows over one transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from tfbundle_serving.apis.errors import BundleError

from .batches.flow import BatchPrediction, Stream
from .batches.run import run_blocking
from .calls.flows import Flow, Pause, Result
from .client_base import ClientBase
from .client_setup import DEFAULT_TIMEOUT_S, UNSET, Timeout, Unset
from .dressing import dress
from .transports.address import Address
from .transports.connection import Connection
from .transports.opening import open_transport
from .transports.transport import Transport

__all__ = ["DEFAULT_TIMEOUT_S", "UNSET", "Client", "Timeout", "Unset", "drive"]

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


def drive(flow: Flow[Result], transport: Transport) -> Result:
    """Do what a flow asks for, step by step, until it returns."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                step = flow.send(None)
                continue
            try:
                reply = transport.send(step)
            except BundleError as error:
                step = flow.throw(error)
            else:
                step = flow.send(reply)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        flow.close()


def blocking(
    ask: Callable[Concatenate[ClientBase, _Arguments], Flow[_Answer]],
) -> Callable[Concatenate[Client, _Arguments], _Answer]:
    """Make the method that asks, and waits for the answer."""

    def method(self: Client, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        return drive(ask(self, *args, **kwargs), self._transport)

    dress(method, ask)
    method.__qualname__ = f"Client.{method.__name__}"
    return method


def streamed(
    ask: Callable[Concatenate[ClientBase, _Arguments], Flow[Stream]],
) -> Callable[Concatenate[Client, _Arguments], Generator[BatchPrediction, None, None]]:
    """Make the method that asks for the batches of a stream, and gives an iterator over the answers."""

    def method(
        self: Client, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Generator[BatchPrediction, None, None]:
        flow = ask(self, *args, **kwargs)

        def answers() -> Generator[BatchPrediction, None, None]:
            stream = drive(flow, self._transport)
            yield from run_blocking(stream, lambda batch: drive(stream.answer(batch), self._transport))

        return answers()

    dress(method, ask, "Iterator[BatchPrediction]")
    method.__qualname__ = f"Client.{method.__name__}"
    return method


class Client(ClientBase):
    """The blocking client; `ClientSetup` says how it is set up. It may be shared by threads, and used after a fork.

    with Client("grpc://localhost:8500") as client:
        r = client.predict("digits", images)
        r["probabilities"], r.version

    The address is that of a server, over gRPC (grpc://host:8500) or REST (http://host:8501), of several, or a folder
    whose models are run here, without a server (local:models/digits).
    """

    _transport: Transport

    def _open(self, address: Address, connection: Connection) -> Transport:
        return open_transport(address, connection)

    predict = blocking(ClientBase._ask_predict)
    predict_batches = streamed(ClientBase._ask_predict_batches)
    classify = blocking(ClientBase._ask_classify)
    regress = blocking(ClientBase._ask_regress)
    multi_inference = blocking(ClientBase._ask_multi_inference)
    metadata = blocking(ClientBase._ask_metadata)
    status = blocking(ClientBase._ask_status)
    wait_until_available = blocking(ClientBase._ask_wait_until_available)
    health = blocking(ClientBase._ask_health)
    health_list = blocking(ClientBase._ask_health_list)
    reload_config = blocking(ClientBase._ask_reload_config)

    def close(self) -> None:
        """Close the connections; a session or channel that was given stays open, and so do those of `with_options`."""
        self._is_closed = True
        if not self._is_copy:
            self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

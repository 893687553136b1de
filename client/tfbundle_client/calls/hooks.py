"""What a client tells of the messages that it sends: to functions of the caller, and to tracing.

    Client(url, on_response=lambda event: histogram.observe(event.seconds))

One event before each message and one after it, retries and look-ups of signatures included. A function that raises is
logged and does not disturb the call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ..transports.transport import (
    Call,
    ClassifyCall,
    HealthCall,
    HealthListCall,
    MetadataCall,
    MultiInferenceCall,
    PredictCall,
    RegressCall,
    ReloadCall,
    StatusCall,
    Transfer,
)

_log = logging.getLogger(__name__)

_Event = TypeVar("_Event")

#: Kind of call to the RPC's name; REST requests go by the same names.
RPC_NAMES: dict[type[Call[Any]], str] = {
    PredictCall: "tensorflow.serving.PredictionService/Predict",
    ClassifyCall: "tensorflow.serving.PredictionService/Classify",
    RegressCall: "tensorflow.serving.PredictionService/Regress",
    MultiInferenceCall: "tensorflow.serving.PredictionService/MultiInference",
    MetadataCall: "tensorflow.serving.PredictionService/GetModelMetadata",
    StatusCall: "tensorflow.serving.ModelService/GetModelStatus",
    ReloadCall: "tensorflow.serving.ModelService/HandleReloadConfigRequest",
    HealthCall: "grpc.health.v1.Health/Check",
    HealthListCall: "grpc.health.v1.Health/List",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """A message is about to be sent.

    Attributes:
        model: The model that is asked; "" where none is.
        version: The version or label that the message asks for; None for the latest.
        method: Name of the RPC, such as "Predict"; the same over REST.
        transport: "gRPC", "REST" or "local".
        address: The server's address as the client was given it.
        attempt: 1 for the first time that the message is sent.
    """

    model: str
    version: int | str | None
    method: str
    transport: str
    address: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseEvent(RequestEvent):
    """A message was answered, or failed.

    Attributes:
        seconds: From before the message was written to after the reply was read.
        error: What went wrong; None where nothing did.
        request_bytes: Size of the message's body; None where the transport does not tell.
        response_bytes: Size of the reply's body; None where there is none, or the transport does not tell.
        encode_s: Of the seconds, those in which the message was written.
        decode_s: Of the seconds, those in which the reply was read.
    """

    seconds: float
    error: BaseException | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    encode_s: float = 0.0
    decode_s: float = 0.0


OnRequest = Callable[[RequestEvent], object]
OnResponse = Callable[[ResponseEvent], object]

#: Told what became of a message; None where it was answered.
Finish = Callable[[BaseException | None], None]


class Observer(Protocol):
    """Sees every message of a client."""

    def begin(self, call: Call[Any], attempt: int) -> tuple[Call[Any], Finish]:
        """See a message before it is sent.

        Returns:
            The message that is sent in its place (the same, or with headers), and what to call afterwards.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """An observer that calls the caller's functions.

    Attributes:
        transport: The kind of transport.
        address: The server's address.
        on_request: Called before each message.
        on_response: Called after it.
    """

    transport: str
    address: str
    on_request: OnRequest | None = None
    on_response: OnResponse | None = None

    def begin(self, call: Call[Any], attempt: int) -> tuple[Call[Any], Finish]:
        """See a message before it is sent; see `Observer.begin`."""
        transfer = call.transfer or Transfer()
        known: dict[str, Any] = {
            "model": call.spec.name,
            "version": call.spec.label if call.spec.version is None else call.spec.version,
            "method": RPC_NAMES[type(call)].rpartition("/")[2],
            "transport": self.transport,
            "address": self.address,
            "attempt": attempt,
        }
        if self.on_request is not None:
            _tell(self.on_request, RequestEvent(**known))
        started_s = time.perf_counter()

        def finish(error: BaseException | None) -> None:
            if self.on_response is not None:
                event = ResponseEvent(
                    **known,
                    seconds=time.perf_counter() - started_s,
                    error=error,
                    request_bytes=transfer.request_bytes,
                    response_bytes=transfer.response_bytes,
                    encode_s=transfer.encode_s,
                    decode_s=transfer.decode_s,
                )
                _tell(self.on_response, event)

        return (call if call.transfer is transfer else replace(call, transfer=transfer)), finish


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """An observer that gives each message more headers.

    Attributes:
        headers: Names in lower case, and values.
    """

    headers: tuple[tuple[str, str], ...]

    def begin(self, call: Call[Any], attempt: int) -> tuple[Call[Any], Finish]:  # noqa: ARG002 - Observer's
        """See a message before it is sent; see `Observer.begin`."""
        return replace(call, headers=(*call.headers, *self.headers)), do_nothing


def do_nothing(_error: BaseException | None) -> None:
    """Finish where there is nothing to finish."""


def _tell(function: Callable[[_Event], object], event: _Event) -> None:
    try:
        function(event)
    except Exception:
        _log.exception("a hook of the client failed")

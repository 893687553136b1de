"""Calls as gRPC messages, and the blocking channel that carries them.

Messages are written and read by the wire codec of `tfbundle_serving.apis`, so the channel moves plain bytes and there
is no protobuf to clash with TensorFlow's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import BY_CODE, ApiError, ConnectionFailed, DecodeError, Unknown
from tfbundle_serving.apis.model_metadata import MetadataRequest, decode_metadata_response, encode_metadata_request
from tfbundle_serving.apis.model_status import decode_status_response, encode_status_request
from tfbundle_serving.apis.predict import PredictRequest, decode_predict_response, encode_predict_request

from .address import Address
from .per_process import PerProcess
from .transport import Call, MetadataCall, PredictCall, Reply, StatusCall

if TYPE_CHECKING:
    import grpc

ChannelOptions = Mapping[str, int | str]

#: What a channel is made with unless the caller says otherwise.
DEFAULT_CHANNEL_OPTIONS: ChannelOptions = {
    # The limit of 4 MiB is the client's alone; TensorFlow Serving takes and gives 2 GiB.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
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

_DEADLINE_EXCEEDED, _UNAVAILABLE = 4, 14
#: How gRPC's core itself words an UNAVAILABLE, as opposed to one that a server sent; the code does not tell.
_OUR_END = re.compile(
    "failed to connect|connection (refused|reset|timed out)|socket closed|broken pipe|errors resolving|"
    "dns resolution|resolver|name resolution|goaway|transport closed|endpoint clos|keepalive|ping timeout|"
    "connection attempt|recvmsg|sendmsg|tcp_|connect timeout|no address added|empty address list",
    re.IGNORECASE,
)
#: What gRPC's core says in front of the reason.
_PREAMBLE = re.compile(r"^failed to connect to all addresses; last error: (UNKNOWN|UNAVAILABLE): ")


@dataclass(frozen=True, slots=True)
class Method:
    """How one kind of call travels.

    Attributes:
        path: The RPC's full name.
        build: Writes the request message.
        read: Reads the reply message.
    """

    path: str
    build: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


def _build_predict(call: PredictCall) -> bytes:
    return encode_predict_request(PredictRequest(call.spec, call.inputs, call.output_filter))


def _build_metadata(call: MetadataCall) -> bytes:
    return encode_metadata_request(MetadataRequest(call.spec))


def _build_status(call: StatusCall) -> bytes:
    return encode_status_request(call.spec)


#: Kind of call to RPC.
METHODS: dict[type[Call[Any]], Method] = {
    PredictCall: Method("/tensorflow.serving.PredictionService/Predict", _build_predict, decode_predict_response),
    MetadataCall: Method(
        "/tensorflow.serving.PredictionService/GetModelMetadata", _build_metadata, decode_metadata_response
    ),
    StatusCall: Method("/tensorflow.serving.ModelService/GetModelStatus", _build_status, decode_status_response),
}


def read_failure(code: int, details: str, call: Call[Any], address: Address) -> ApiError:
    """Make the error that a gRPC status stands for."""
    spec = call.spec
    kind = BY_CODE.get(code, Unknown)
    message = details or f"{spec}: {address} says no more than status {code}"
    if code == _UNAVAILABLE and _OUR_END.search(details):
        reason = _PREAMBLE.sub("", details)
        hint = "; does it speak gRPC, or is this the REST port?" if "Failed parsing HTTP/2" in details else ""
        kind, message = ConnectionFailed, f"no connection to {address}: {reason}{hint}"
    elif code == _DEADLINE_EXCEEDED and details == "Deadline Exceeded":
        message = f"{spec}: no answer from {address} within {call.deadline.timeout_s:g} s"
    return kind(message, model=spec.name, version=spec.version if spec.version is not None else spec.label)


class GrpcTransport:
    """A blocking gRPC channel, opened when first used and again in each forked process."""

    name = "gRPC"
    names_version = True

    def __init__(
        self,
        address: Address,
        *,
        headers: Mapping[str, str] | None = None,
        channel: grpc.Channel | None = None,
        channel_options: ChannelOptions | None = None,
    ) -> None:
        self._address = address
        self._headers = [(name.lower(), value) for name, value in (headers or {}).items()]
        self._options = {**DEFAULT_CHANNEL_OPTIONS, **(channel_options or {})}
        self._given = channel
        self._connection: PerProcess[_Connection] = PerProcess(self._connect, _Connection.close)

    def _connect(self) -> _Connection:
        if self._given is not None:
            return _Connection(self._given, is_ours=False)
        import grpc

        return _Connection(grpc.insecure_channel(self._address.target, list(self._options.items())), is_ours=True)

    def send(self, call: Call[Reply]) -> Reply:
        """Send a call and wait for its reply; see `Transport`."""
        import grpc

        method = METHODS[type(call)]
        request = method.build(call)
        rpc = self._connection.get().rpcs[method.path]
        try:
            body = rpc(request, timeout=call.deadline.remaining_s(), metadata=self._headers)
        except grpc.RpcError as error:
            raise read_failure(error.code().value[0], error.details() or "", call, self._address) from None
        try:
            reply: Reply = method.read(body)
        except DecodeError as error:
            raise DecodeError(f"{call.spec}: the answer of {self._address} cannot be read: {error}") from error
        return reply

    def close(self) -> None:
        """Close the channel, unless it is the caller's."""
        self._connection.close()


class _Connection:
    """One channel with its callables, which grpc would otherwise make anew for each call."""

    def __init__(self, channel: grpc.Channel, *, is_ours: bool) -> None:
        self._channel = channel
        self._is_ours = is_ours
        self.rpcs = {method.path: channel.unary_unary(method.path) for method in METHODS.values()}

    def close(self) -> None:
        if self._is_ours:
            self._channel.close()

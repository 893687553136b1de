"""Calls as gRPC messages, and statuses as errors; no I/O.

Messages are written and read by the wire codec of `tfbundle_serving.apis`, so channels move plain bytes and there is no
protobuf to clash with TensorFlow's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tfbundle_serving.apis.classification import decode_classification_response
from tfbundle_serving.apis.errors import (
    BY_CODE,
    STATUS_NAMES,
    ApiError,
    DeadlineExceeded,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from tfbundle_serving.apis.health import decode_health_list, decode_health_response, encode_health_request
from tfbundle_serving.apis.input_proto import ExamplesRequest, encode_examples_request
from tfbundle_serving.apis.model_metadata import MetadataRequest, decode_metadata_response, encode_metadata_request
from tfbundle_serving.apis.model_status import decode_status_response, encode_status_request
from tfbundle_serving.apis.multi_inference import (
    MultiInferenceRequest,
    decode_multi_inference_response,
    encode_multi_inference_request,
)
from tfbundle_serving.apis.regression import decode_regression_response
from tfbundle_serving.apis.reload_config import ReloadRequest, decode_reload_reply, encode_reload_request

from .address import Endpoint
from .messages import failure, late, name, no_connection
from .repeated_predicts import read_predict, write_predict
from .transport import (
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
)

#: How gRPC's core itself words an UNAVAILABLE, as opposed to one that a server sent; the code does not tell.
_OUR_END = re.compile(
    "failed to connect|connection (refused|reset|timed out)|socket closed|broken pipe|errors resolving|"
    "dns resolution|resolver|name resolution|goaway|transport closed|endpoint clos|keepalive|ping timeout|"
    "connection attempt|recvmsg|sendmsg|tcp_|connect timeout|no address added|empty address list",
    re.IGNORECASE,
)
#: What gRPC's core says in front of the reason.
_PREAMBLE = re.compile(r"^failed to connect to all addresses; last error: (UNKNOWN|UNAVAILABLE): ")
#: An IPv6 address as gRPC's core writes it, as a part of a URL: ipv6:%5B::1%5D:8500.
_ENCODED_ADDRESS = re.compile(r"\bipv6:\S+")
#: What gRPC's core appends to any failed handshake, though no certificate was looked at.
_NO_CONTEXT = re.compile(r": Invalid certificate verification context(: OK)?")
#: How either end says that a message is over its limit: gRPC's core here, and TensorFlow Serving's there.
_TOO_LARGE = re.compile(r"(sent|received) message larger than max", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Method:
    """How one kind of call travels.

    Attributes:
        path: The RPC's full name.
        build: Writes the request message.
        read: Reads the reply message, given with the call.
    """

    path: str
    build: Callable[[Any], bytes]
    read: Callable[[bytes, Any], Any]


def _build_examples(call: ClassifyCall | RegressCall) -> bytes:
    return encode_examples_request(ExamplesRequest(call.spec, call.input))


def _build_tasks(call: MultiInferenceCall) -> bytes:
    return encode_multi_inference_request(MultiInferenceRequest(call.tasks, call.input))


def _build_metadata(call: MetadataCall) -> bytes:
    return encode_metadata_request(MetadataRequest(call.spec))


def _build_status(call: StatusCall) -> bytes:
    return encode_status_request(call.spec)


def _build_reload(call: ReloadCall) -> bytes:
    return encode_reload_request(ReloadRequest(call.config, tuple(call.metric_names)))


def _build_health(call: HealthCall) -> bytes:
    return encode_health_request(call.service)


def _build_health_list(_: HealthListCall) -> bytes:
    return b""


def _whole(decode: Callable[[bytes], Any]) -> Callable[[bytes, Any], Any]:
    """Give a reader its second argument: a message says everything itself."""
    return lambda body, _call: decode(body)


_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService", "/tensorflow.serving.ModelService"

#: Kind of call to RPC.
METHODS: dict[type[Call[Any]], Method] = {
    PredictCall: Method(f"{_PREDICTION}/Predict", write_predict, read_predict),
    ClassifyCall: Method(f"{_PREDICTION}/Classify", _build_examples, _whole(decode_classification_response)),
    RegressCall: Method(f"{_PREDICTION}/Regress", _build_examples, _whole(decode_regression_response)),
    MultiInferenceCall: Method(f"{_PREDICTION}/MultiInference", _build_tasks, _whole(decode_multi_inference_response)),
    MetadataCall: Method(f"{_PREDICTION}/GetModelMetadata", _build_metadata, _whole(decode_metadata_response)),
    StatusCall: Method(f"{_MODEL}/GetModelStatus", _build_status, _whole(decode_status_response)),
    ReloadCall: Method(f"{_MODEL}/HandleReloadConfigRequest", _build_reload, _whole(decode_reload_reply)),
    HealthCall: Method("/grpc.health.v1.Health/Check", _build_health, _whole(decode_health_response)),
    HealthListCall: Method("/grpc.health.v1.Health/List", _build_health_list, _whole(decode_health_list)),
}


def read_failure(code: int, details: str, call: Call[Any], endpoint: Endpoint) -> ApiError:
    """Make the error that a gRPC status stands for."""
    if code == Unavailable.code and _OUR_END.search(details):
        return no_connection(_plain_reason(details), call, endpoint)
    if code == DeadlineExceeded.code and details == "Deadline Exceeded" and call.deadline.timeout_s is not None:
        return late(call, endpoint)
    kind = BY_CODE.get(code, Unknown)
    if details:
        error = failure(kind, details, call)
    else:
        status = STATUS_NAMES.get(code, f"status {code}")
        error = failure(kind, f"{name(call)}: {endpoint} answered {status} and says no more", call)
    if code == ResourceExhausted.code and _TOO_LARGE.search(details):
        error.may_succeed_later = False
    return error


def _plain_reason(details: str) -> str:
    """Take away what gRPC's core wraps around the reason of a failed connection."""
    said = _NO_CONTEXT.sub("", _PREAMBLE.sub("", details))
    return _ENCODED_ADDRESS.sub(lambda found: unquote(found[0]), said)


def note_pushback(error: ApiError, trailers: Sequence[tuple[str, Any]] | None) -> None:
    """Write onto an error how long the server wants to be left alone, from the trailer that gRPC has for it.

    Source: gRFC A6 (grpc-retry-pushback-ms): what is no number of milliseconds means not to come again.
    """
    for key, value in trailers or ():
        if key == "grpc-retry-pushback-ms":
            text = str(value)
            if text.isascii() and text.isdecimal():
                error.retry_after_s = int(text) / 1000
            else:
                error.may_succeed_later = False

"""HandleReloadConfigRequest: a server gets another list of models while it runs.

    ReloadConfigRequest   config: a ModelServerConfig, metric_names: ["/tensorflow/serving/request_count"]
    ReloadConfigResponse  status, metric: [{name, int64_value_increase}]

The config itself stays bytes here: they are the binary form of models.config, which `config.models` reads.

Source: tensorflow_serving/apis/model_management.proto, tensorflow_serving/util/status.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .wire import Readable, as_int, as_text, as_view, fields, length_field, string_field, varint_field, view


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """What a server should serve from now on.

    Attributes:
        config: A serialized ModelServerConfig; None where the request has none.
        metric_names: Counters whose increase during the reload the caller wants to know.
    """

    config: bytes | None
    metric_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadReply:
    """What came of it; a failure arrives as a gRPC status, and then there is no reply.

    Attributes:
        error_code: 0.
        error_message: "".
        metrics: Name to increase, for the metrics asked for.
    """

    error_code: int = 0
    error_message: str = ""
    metrics: Mapping[str, int] = field(default_factory=dict)


def encode_reload_request(request: ReloadRequest) -> bytes:
    """Write a ReloadConfigRequest."""
    config = b"" if request.config is None else length_field(1, request.config)
    return config + b"".join(string_field(2, name) for name in request.metric_names)


def decode_reload_request(data: Readable) -> ReloadRequest:
    """Read a ReloadConfigRequest.

    Raises:
        DecodeError: The bytes are not such a request.
    """
    config: bytes | None = None
    names: list[str] = []
    for number, _, value in fields(view(data)):
        if number == 1:
            # Protobuf merges a message that comes twice, and merging is what joined bytes mean.
            config = (config or b"") + bytes(as_view(value, "config"))
        elif number == 2:
            names.append(as_text(value, "metric_names"))
    return ReloadRequest(config, tuple(names))


def encode_reload_reply(reply: ReloadReply) -> bytes:
    """Write a ReloadConfigResponse."""
    status = varint_field(1, reply.error_code) if reply.error_code else b""
    if reply.error_message:
        status += string_field(2, reply.error_message)
    metrics = [string_field(1, name) + varint_field(2, increase) for name, increase in reply.metrics.items()]
    return length_field(1, status) + b"".join(length_field(2, metric) for metric in metrics)


def decode_reload_reply(data: Readable) -> ReloadReply:
    """Read a ReloadConfigResponse.

    Raises:
        DecodeError: The bytes are not such a response.
    """
    code, message = 0, ""
    metrics: dict[str, int] = {}
    for number, _, value in fields(view(data)):
        if number == 1:
            for inner, _, content in fields(as_view(value, "status")):
                if inner == 1:
                    code = as_int(content, "error_code")
                elif inner == 2:
                    message = as_text(content, "error_message")
        elif number == 2:
            name, increase = _decode_metric(as_view(value, "metric"))
            metrics[name] = increase
    return ReloadReply(code, message, metrics)


def _decode_metric(data: memoryview) -> tuple[str, int]:
    name, increase = "", 0
    for number, _, value in fields(data):
        if number == 1:
            name = as_text(value, "metric.name")
        elif number == 2:
            increase = as_int(value, "int64_value_increase")
    return name, increase

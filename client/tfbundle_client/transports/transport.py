"""What the client sends and where: calls with numpy inside, and the one method that carries them.

A transport turns a call into bytes, waits, and turns the bytes that come back into the call's reply. What must happen
in which order (look the signature up, check, send, look again) is said once in `flows`, which knows no transport.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from tfbundle_serving.apis.classification import ClassificationResponse
from tfbundle_serving.apis.health import ServingStatus
from tfbundle_serving.apis.input_proto import Input
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.multi_inference import InferenceResult, InferenceTask
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.regression import RegressionResponse
from tfbundle_serving.apis.reload_config import ReloadReply
from tfbundle_serving.apis.signatures import Signature

from ..calls.deadline import Deadline

Reply = TypeVar("Reply")


@dataclass(slots=True)
class Transfer:
    """What one message cost; a transport fills it in where a call carries one.

    Attributes:
        request_bytes: Size of the message's body; None where unknown.
        response_bytes: Size of the reply's body; None where there is none.
        encode_s: Seconds to write the message.
        decode_s: Seconds to read the reply.
    """

    request_bytes: int | None = None
    response_bytes: int | None = None
    encode_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Reply]):
    """One message to a server; the type says what comes back.

    Attributes:
        spec: Model, version or label, signature.
        deadline: By when the answer must be here.
        headers: Names and values that go with this message alone, such as traceparent; names are lower-case.
        transfer: Where the transport notes sizes and times; None where nobody wants to know.
    """

    spec: ModelSpec
    deadline: Deadline
    headers: Sequence[tuple[str, str]] = ()
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictCall(Call[PredictResponse]):
    """Run a signature.

    Attributes:
        inputs: Alias to array, of the dtypes that the signature wants.
        output_filter: Aliases of the wanted outputs; empty means all.
        signature: The signature that is called; JSON needs it to write inputs and to name and type outputs.
    """

    inputs: Mapping[str, NDArray[Any]]
    output_filter: Sequence[str] = ()
    signature: Signature = field(default_factory=lambda: Signature({}, {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyCall(Call[ClassificationResponse]):
    """Classify examples.

    Attributes:
        input: Serialized examples, and the context that they share; `json_example_calls` makes JSON of them.
    """

    input: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressCall(Call[RegressionResponse]):
    """Give a number for each example.

    Attributes:
        input: Serialized examples, and the context that they share.
    """

    input: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiInferenceCall(Call[list[InferenceResult]]):
    """Run several classify and regress signatures on the same examples; there is no such REST request.

    Attributes:
        tasks: The signatures, each with its method.
        input: Serialized examples, and the context that they share.
    """

    tasks: Sequence[InferenceTask]
    input: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataCall(Call[ModelMetadata]):
    """Ask for a version's signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCall(Call[list[VersionStatus]]):
    """Ask for the states of a model's versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadCall(Call[ReloadReply]):
    """Give the server another list of models; there is no such REST request, and `spec` names no model.

    Attributes:
        config: A serialized ModelServerConfig.
        metric_names: Counters whose increase during the reload the caller wants to know.
    """

    config: bytes
    metric_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCall(Call[ServingStatus]):
    """Ask whether the server, or a service of it, takes requests; `spec` names no model.

    Over REST it is GET /v1/health/ready (200 is SERVING, 503 NOT_SERVING); a model's health is its status there.

    Attributes:
        service: What is asked for, such as a model's name; "" for the server as a whole.
    """

    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthListCall(Call[dict[str, ServingStatus]]):
    """Ask for the health of everything that a server tells apart; `spec` names no model. Over gRPC only."""


class Transport(Protocol):
    """A way to a server. Implementations are safe to use from several threads, and after a fork."""

    #: "gRPC", "REST" or "local", for reports.
    name: str
    #: Whether a predict reply names the version that answered. Where it does not, the version has to be asked for.
    names_version: bool

    def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply.

        Raises:
            Unimplemented: Such a call does not travel over this transport; nothing was sent, so attempts is 0.
            ApiError: The server refused, cannot be reached, or did not answer in time. Where the transport knows more
                of a second try than the class tells, it sets `may_succeed_later` and `retry_after_s` on it.
            DecodeError: The answer is not a reply to such a call.
        """

    def close(self) -> None:
        """Release connections; calls in flight may fail."""


class AsyncTransport(Protocol):
    """A way to a server for one event loop; see `Transport`."""

    name: str
    names_version: bool

    async def send(self, call: Call[Reply], /) -> Reply:
        """Send a call and wait for its reply; see `Transport.send`."""

    async def close(self) -> None:
        """Release connections; calls in flight may fail."""

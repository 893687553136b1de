"""What the client sends and where: calls with numpy inside, and the one method that carries them.

A transport turns a call into bytes, waits, and turns the bytes that come back into the call's reply. What must happen
in which order (look the signature up, check, send, look again) is said once in `flows`, which knows no transport.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from numpy.typing import NDArray

from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.signatures import Signature

from .deadline import Deadline

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Reply]):
    """One message to a server; the type says what comes back.

    Attributes:
        spec: Model, version or label, signature.
        deadline: By when the answer must be here.
    """

    spec: ModelSpec
    deadline: Deadline


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
class MetadataCall(Call[ModelMetadata]):
    """Ask for a version's signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCall(Call[list[VersionStatus]]):
    """Ask for the states of a model's versions."""


class Transport(Protocol):
    """A way to a server. Implementations are safe to use from several threads, and after a fork."""

    #: "gRPC" or "REST", for reports.
    name: str
    #: Whether a predict reply names the version that answered. Where it does not, the version has to be asked for.
    names_version: bool

    def send(self, call: Call[Reply]) -> Reply:
        """Send a call and wait for its reply.

        Raises:
            ApiError: The server refused, cannot be reached, or did not answer in time.
            DecodeError: The answer is not a reply to such a call.
        """

    def close(self) -> None:
        """Release connections; calls in flight may fail."""

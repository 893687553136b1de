"""A client for TensorFlow Serving and the embedded server, over gRPC and REST, without TensorFlow.

with Client("grpc://localhost:8500") as client:
    r = client.predict("digits", images)
    r["probabilities"], r.version
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    BundleError,
    Cancelled,
    ConnectionFailed,
    DataLoss,
    DeadlineExceeded,
    DecodeError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ParityError,
    PermissionDenied,
    ResourceExhausted,
    SignatureMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.signatures import Signature, TensorSpec

from .async_client import AsyncClient
from .batches.flow import BatchPrediction
from .calls.hooks import RequestEvent, ResponseEvent
from .calls.inferences import Classifications, Regressions
from .calls.prediction import Prediction
from .calls.retry import Retry
from .client import Client
from .transports.connection import Tls

if TYPE_CHECKING:
    from .canary.check import check_canary
    from .canary.evidence import Bounds
    from .canary.result import CanaryReport
    from .parity.check import check_parity
    from .parity.result import ParityReport

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ApiError",
    "AsyncClient",
    "BatchPrediction",
    "Bounds",
    "BundleError",
    "CanaryReport",
    "Cancelled",
    "Classifications",
    "Client",
    "ConnectionFailed",
    "DataLoss",
    "DeadlineExceeded",
    "DecodeError",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "ModelMetadata",
    "NotFound",
    "OutOfRange",
    "ParityError",
    "ParityReport",
    "PermissionDenied",
    "Prediction",
    "Regressions",
    "RequestEvent",
    "ResourceExhausted",
    "ResponseEvent",
    "Retry",
    "Signature",
    "SignatureMismatch",
    "State",
    "TensorSpec",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "VersionStatus",
    "check_canary",
    "check_parity",
]

#: Names that are imported when they are first wanted: an application that predicts compares nothing.
_LATER = {
    "Bounds": "canary.evidence",
    "CanaryReport": "canary.result",
    "ParityReport": "parity.result",
    "check_canary": "canary.check",
    "check_parity": "parity.check",
}


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found

"""One error tree for exporter, server and client.

BundleError
├── ExportError              nothing was published
│   └── GateError            the staged version did not answer like its source
├── ParityError              a comparison could not be made
├── RolloutError             a label was not moved; what was changed on the way was put back
├── DecodeError              bytes that are not the message they should be
└── ApiError                 one class per canonical status, with its gRPC code and HTTP status
    ├── Cancelled            1   499
    ├── Unknown              2   500
    ├── InvalidArgument      3   400
    │   └── SignatureMismatch    the client's own check, before anything is sent
    ├── DeadlineExceeded     4   504   (also a TimeoutError)
    ├── NotFound             5   404
    ├── AlreadyExists        6   409
    ├── PermissionDenied     7   403
    ├── ResourceExhausted    8   429
    ├── FailedPrecondition   9   400
    ├── Aborted             10   409
    ├── OutOfRange          11   400
    ├── Unimplemented       12   501
    ├── Internal            13   500
    ├── Unavailable         14   503
    │   └── ConnectionFailed     nothing answers at that address
    ├── DataLoss            15   500
    └── Unauthenticated     16   401

HTTP 400 stands for three statuses, so a REST client raises InvalidArgument for all of them.

Source: tensorflow_serving/model_servers/http_server.cc (the HTTP status of each code).
"""

from __future__ import annotations

from typing import ClassVar


class BundleError(Exception):
    """Every error that tfbundle raises on purpose; its text is one line for a person."""


class ExportError(BundleError):
    """The exporter could not make a version; nothing appeared under a number."""


class GateError(ExportError):
    """The staged version was loaded and did not answer like its source."""


class ParityError(BundleError):
    """A comparison could not be made (which is not the same as "differs")."""


class RolloutError(BundleError):
    """Labels and loaded versions could not be changed; the message says what could not be put back, if anything."""


class DecodeError(BundleError):
    """Bytes from the wire or from a file that are not the message they should be."""


class ApiError(BundleError):
    """A request failed with a canonical status.

    Attributes:
        code: The gRPC status number.
        http_status: What TensorFlow Serving's REST API answers for that status.
        model: Model name of the request, where known.
        version: Version number or label of the request, where one was asked for.
        attempts: How often the request was sent; 0 means it was refused before sending.
    """

    code: ClassVar[int] = 2
    http_status: ClassVar[int] = 500

    #: What a transport knows of a second try: whether it may succeed (None: what the class says), and how many seconds
    #: the server wants to be left alone before (None: it does not say).
    may_succeed_later: bool | None = None
    retry_after_s: float | None = None

    def __init__(
        self, message: str, *, model: str | None = None, version: int | str | None = None, attempts: int = 1
    ) -> None:
        super().__init__(message)
        self.model = model
        self.version = version
        self.attempts = attempts

    @property
    def message(self) -> str:
        """The bare text, as it stands on the wire."""
        return str(self.args[0])

    @property
    def status_name(self) -> str:
        """The canonical name, such as INVALID_ARGUMENT."""
        return STATUS_NAMES[self.code]


class Cancelled(ApiError):
    """The caller gave up."""

    code = 1
    http_status = 499


class Unknown(ApiError):
    """The server does not say what went wrong."""

    code = 2
    http_status = 500


class InvalidArgument(ApiError):
    """The request can never succeed as it is."""

    code = 3
    http_status = 400


class SignatureMismatch(InvalidArgument):
    """Inputs do not fit the signature; raised by the client before anything is sent."""


class DeadlineExceeded(ApiError, TimeoutError):
    """No answer within the time allowed."""

    code = 4
    http_status = 504


class NotFound(ApiError):
    """The model, version or signature is not there."""

    code = 5
    http_status = 404


class AlreadyExists(ApiError):
    """What should be made is there already."""

    code = 6
    http_status = 409


class PermissionDenied(ApiError):
    """The caller may not do this."""

    code = 7
    http_status = 403


class ResourceExhausted(ApiError):
    """A quota, a queue or a size limit is used up."""

    code = 8
    http_status = 429


class FailedPrecondition(ApiError):
    """The system is not in the state that the request needs."""

    code = 9
    http_status = 400


class Aborted(ApiError):
    """A conflict with another request."""

    code = 10
    http_status = 409


class OutOfRange(ApiError):
    """Past the valid range."""

    code = 11
    http_status = 400


class Unimplemented(ApiError):
    """The operation is not supported here."""

    code = 12
    http_status = 501


class Internal(ApiError):
    """A fault of the server's own."""

    code = 13
    http_status = 500


class Unavailable(ApiError):
    """Not now; the same request may succeed later."""

    code = 14
    http_status = 503


class ConnectionFailed(Unavailable):
    """Nothing answers at that address, or the connection broke."""


class DataLoss(ApiError):
    """Data is gone or corrupt beyond repair."""

    code = 15
    http_status = 500


class Unauthenticated(ApiError):
    """The request carries no valid credentials."""

    code = 16
    http_status = 401


_CANONICAL: tuple[type[ApiError], ...] = (
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
)

#: gRPC code to error class.
BY_CODE: dict[int, type[ApiError]] = {error.code: error for error in _CANONICAL}

#: HTTP status to error class. Where one status stands for several codes, one of them is meant; the last four
#: come from proxies, not from TensorFlow Serving.
BY_HTTP_STATUS: dict[int, type[ApiError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: AlreadyExists,
    429: ResourceExhausted,
    499: Cancelled,
    500: Internal,
    501: Unimplemented,
    503: Unavailable,
    504: DeadlineExceeded,
    405: Unimplemented,
    408: DeadlineExceeded,
    413: ResourceExhausted,
    502: Unavailable,
}

#: gRPC code to canonical name, as error_code in a model's status spells it.
STATUS_NAMES: dict[int, str] = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}

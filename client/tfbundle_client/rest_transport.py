"""Calls as REST requests, and the blocking session that carries them.

    POST /v1/models/digits/versions/3:predict     {"inputs": {"image": [...]}}
    GET  /v1/models/digits/versions/3/metadata
    GET  /v1/models/digits/versions/3             status

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING, Any

from tfbundle_serving.apis.errors import (
    BY_HTTP_STATUS,
    ApiError,
    ConnectionFailed,
    DeadlineExceeded,
    DecodeError,
    InvalidArgument,
    Unknown,
)
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_reply import read_error, read_outputs
from tfbundle_serving.apis.json_request import write_inputs
from tfbundle_serving.apis.model_metadata import ModelMetadata, metadata_from_json
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus, status_from_json
from tfbundle_serving.apis.predict import PredictResponse

from .address import Address
from .per_process import PerProcess
from .transport import Call, MetadataCall, PredictCall, Reply, StatusCall

if TYPE_CHECKING:
    import requests

#: Connections kept open to a server; more threads than that open and close their own.
_KEPT_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Method:
    """How one kind of call travels.

    Attributes:
        suffix: What follows the model's or version's path.
        build: Writes the request's body; None for a GET.
        read: Reads the reply's body.
    """

    suffix: str
    build: Callable[[Any], bytes] | None
    read: Callable[[bytes, Any], Any]


def _build_predict(call: PredictCall) -> bytes:
    return write_inputs(call.inputs, call.signature, signature_name=call.spec.signature)


def _read_predict(body: bytes, call: PredictCall) -> PredictResponse:
    outputs = read_outputs(body, call.signature)
    if call.output_filter:
        # The REST API has no filter, so all outputs have come.
        outputs = {name: array for name, array in outputs.items() if name in call.output_filter}
    return PredictResponse(call.spec, outputs)


def _read_metadata(body: bytes, _call: MetadataCall) -> ModelMetadata:
    return metadata_from_json(_document(body))


def _read_status(body: bytes, _call: StatusCall) -> list[VersionStatus]:
    return status_from_json(_document(body))


def _document(body: bytes) -> dict[str, Any]:
    try:
        return parse(body)
    except InvalidArgument as error:  # what a server's user would be told; here the server is at fault
        raise DecodeError(error.message) from error


#: Kind of call to request.
METHODS: dict[type[Call[Any]], Method] = {
    PredictCall: Method(":predict", _build_predict, _read_predict),
    MetadataCall: Method("/metadata", None, _read_metadata),
    StatusCall: Method("", None, _read_status),
}


def read_failure(http_status: int, body: bytes, call: Call[Any], address: Address) -> ApiError:
    """Make the error that an HTTP status stands for."""
    spec = call.spec
    message = read_error(body, f"{spec}: {address} answered HTTP {http_status} without TensorFlow Serving's error text")
    kind = BY_HTTP_STATUS.get(http_status, Unknown)
    return kind(message, model=spec.name, version=_version(spec))


def _version(spec: ModelSpec) -> int | str | None:
    return spec.version if spec.version is not None else spec.label


class RestTransport:
    """A blocking `requests.Session`, opened when first used and again in each forked process."""

    name = "REST"
    names_version = False

    def __init__(
        self, address: Address, *, headers: Mapping[str, str] | None = None, session: requests.Session | None = None
    ) -> None:
        self._address = address
        self._headers = dict(headers or {})
        self._given = session
        self._session: PerProcess[requests.Session] = PerProcess(self._open, self._shut)

    def _open(self) -> requests.Session:
        if self._given is not None:
            return self._given
        import requests

        from .total_timeout import TotalTimeoutAdapter

        session = requests.Session()
        for prefix in ("http://", "https://"):
            session.mount(prefix, TotalTimeoutAdapter(pool_maxsize=_KEPT_CONNECTIONS))
        return session

    def _shut(self, session: requests.Session) -> None:
        if session is not self._given:
            session.close()

    def send(self, call: Call[Reply]) -> Reply:
        """Send a call and wait for its reply; see `Transport`."""
        method = METHODS[type(call)]
        body = method.build(call) if method.build else None
        response = self._request(f"{call.spec.url_path}{method.suffix}", body, call)
        if response.status_code != 200:
            raise read_failure(response.status_code, response.content, call, self._address)
        try:
            reply: Reply = method.read(response.content, call)
        except DecodeError as error:
            raise DecodeError(f"{call.spec}: the answer of {self._address} cannot be read: {error}") from error
        return reply

    def _request(self, path: str, body: bytes | None, call: Call[Any]) -> requests.Response:
        import requests
        from urllib3.exceptions import ReadTimeoutError
        from urllib3.util import Timeout

        left_s = call.deadline.remaining_s()
        if left_s == 0.0:
            raise self._late(call)
        headers = self._headers if body is None else {"Content-Type": "application/json", **self._headers}
        try:
            return self._session.get().request(
                "GET" if body is None else "POST",
                self._address.url + path,
                data=body,
                headers=headers,
                timeout=Timeout(total=left_s),  # type: ignore[arg-type]  # taken as it is; the stubs know tuples only
                allow_redirects=False,
            )
        except requests.Timeout:
            raise self._late(call) from None
        except requests.RequestException as error:
            cause = error.args[0] if error.args else error
            if isinstance(cause, ReadTimeoutError):  # in the middle of the body, requests does not call it a timeout
                raise self._late(call) from None
            raise ConnectionFailed(
                f"no connection to {self._address}: {_reason(cause)}",
                model=call.spec.name,
                version=_version(call.spec),
            ) from error

    def _late(self, call: Call[Any]) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{call.spec}: no answer from {self._address} within {call.deadline.timeout_s:g} s",
            model=call.spec.name,
            version=_version(call.spec),
        )

    def close(self) -> None:
        """Close the session, unless it is the caller's."""
        self._session.close()


def _reason(error: object) -> str:
    """Find the plain words below the layers that urllib3 wraps around them."""
    reason = getattr(error, "reason", None)  # MaxRetryError holds the error of its last try
    if isinstance(reason, BaseException):
        return _reason(reason)
    if isinstance(error, BaseException) and len(error.args) > 1 and isinstance(error.args[1], BaseException):
        return _reason(error.args[1])
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "the answer is not HTTP; is this the gRPC port?"
    if isinstance(error, BaseException):
        system = error.__cause__ or error.__context__
        if isinstance(system, OSError) and system.strerror:
            return system.strerror
    return " ".join(str(error).split())

"""Calls as REST requests, and answers as replies or errors; no I/O.

    POST /v1/models/digits/versions/3:predict     {"inputs": {"image": [...]}}
    GET  /v1/models/digits/versions/3/metadata
    GET  /v1/models/digits/versions/3             status

Source: tensorflow_serving/model_servers/http_rest_api_handler.cc.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from tfbundle_serving.apis.classification import ClassificationResponse
from tfbundle_serving.apis.errors import (
    BY_HTTP_STATUS,
    ApiError,
    DecodeError,
    InvalidArgument,
    ResourceExhausted,
    Unknown,
)
from tfbundle_serving.apis.health import ServingStatus
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_example_calls import read_classifications, read_regressions, write_examples
from tfbundle_serving.apis.json_reply import read_error, read_outputs
from tfbundle_serving.apis.json_request import write_inputs
from tfbundle_serving.apis.model_metadata import ModelMetadata, metadata_from_json
from tfbundle_serving.apis.model_status import VersionStatus, status_from_json
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.regression import RegressionResponse

from .address import Endpoint
from .messages import failure, name, not_over, read, write
from .transport import (
    Call,
    ClassifyCall,
    HealthCall,
    MetadataCall,
    PredictCall,
    RegressCall,
    StatusCall,
)

#: More than this of a foreign answer is of no use in a message.
_EXCERPT = 120
#: gzip's levels above take several times as long for a tenth fewer bytes.
_GZIP_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Method:
    """How one kind of call travels.

    Attributes:
        path: Gives the request's path.
        build: Writes the request's body; None for a GET.
        read: HTTP status to the reader of a body that comes with it; any other status is an error.
    """

    path: Callable[[Any], str]
    build: Callable[[Any], bytes] | None
    read: Mapping[int, Callable[[bytes, Any], Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request but for its server.

    Attributes:
        verb: GET or POST.
        path: The path, percent-encoded.
        body: None for a GET.
        headers: Those that the body needs.
    """

    verb: str
    path: str
    body: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        http_status: The status.
        body: All of the body, decompressed.
        retry_after: The header Retry-After.
        location: The header Location.
    """

    http_status: int
    body: bytes
    retry_after: str | None = None
    location: str | None = None


def _after_model(suffix: str) -> Callable[[Call[Any]], str]:
    return lambda call: call.spec.url_path + suffix


def _build_predict(call: PredictCall) -> bytes:
    return write_inputs(call.inputs, call.signature, signature_name=call.spec.signature)


def _read_predict(body: bytes, call: PredictCall) -> PredictResponse:
    outputs = read_outputs(body, call.signature)
    if call.output_filter:
        # The REST API has no filter, so all outputs have come.
        outputs = {name: array for name, array in outputs.items() if name in call.output_filter}
    return PredictResponse(call.spec, outputs)


def _build_examples(call: ClassifyCall | RegressCall) -> bytes:
    return write_examples(call.input, call.spec.signature)


def _read_classify(body: bytes, call: ClassifyCall) -> ClassificationResponse:
    return ClassificationResponse(call.spec, read_classifications(body))


def _read_regress(body: bytes, call: RegressCall) -> RegressionResponse:
    return RegressionResponse(call.spec, read_regressions(body))


def _read_metadata(body: bytes, _call: MetadataCall) -> ModelMetadata:
    return metadata_from_json(_document(body))


def _read_status(body: bytes, _call: StatusCall) -> list[VersionStatus]:
    return status_from_json(_document(body))


def _document(body: bytes) -> dict[str, Any]:
    try:
        return parse(body)
    except InvalidArgument as error:  # what a server's user would be told; here the server is at fault
        raise DecodeError(error.message) from error


def _health_path(call: HealthCall) -> str:
    if call.service:
        raise not_over("REST", "the health of a service", call)
    return "/v1/health/ready"


def _is(status: ServingStatus) -> Callable[[bytes, Any], ServingStatus]:
    return lambda _body, _call: status


#: Kind of call to request; a kind that is missing here has no REST form.
METHODS: dict[type[Call[Any]], Method] = {
    PredictCall: Method(_after_model(":predict"), _build_predict, {200: _read_predict}),
    ClassifyCall: Method(_after_model(":classify"), _build_examples, {200: _read_classify}),
    RegressCall: Method(_after_model(":regress"), _build_examples, {200: _read_regress}),
    MetadataCall: Method(_after_model("/metadata"), None, {200: _read_metadata}),
    StatusCall: Method(_after_model(""), None, {200: _read_status}),
    HealthCall: Method(_health_path, None, {200: _is(ServingStatus.SERVING), 503: _is(ServingStatus.NOT_SERVING)}),
}

_JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}
_GZIP_HEADERS: Mapping[str, str] = {**_JSON_HEADERS, "content-encoding": "gzip"}


def write_request(call: Call[Any], *, compress: bool) -> tuple[Method, Request]:
    """Write a call's request.

    Raises:
        Unimplemented: There is no such REST request, or a dtype has no JSON form.
    """
    method = METHODS.get(type(call))
    if method is None:
        raise not_over("REST", type(call).__name__.removesuffix("Call"), call)
    path = method.path(call)
    if method.build is None:
        return method, Request("GET", path, None, {})
    body = write(method.build, call)
    if compress:
        return method, Request("POST", path, gzip.compress(body, _GZIP_LEVEL), _GZIP_HEADERS)
    return method, Request("POST", path, body, _JSON_HEADERS)


def read_answer(method: Method, answer: Answer, call: Call[Any], endpoint: Endpoint) -> Any:
    """Read an answer.

    Raises:
        ApiError: It is a refusal.
        DecodeError: It is no reply to such a call.
    """
    parse_body = method.read.get(answer.http_status)
    if parse_body is None:
        raise read_failure(answer, call, endpoint)
    return read(parse_body, answer.body, call, endpoint)


def read_failure(answer: Answer, call: Call[Any], endpoint: Endpoint) -> ApiError:
    """Make the error that an HTTP status stands for, whether TensorFlow Serving sent it or a proxy on the way."""
    status = answer.http_status
    kind = BY_HTTP_STATUS.get(status) or (InvalidArgument if 400 <= status < 500 else Unknown)
    words = read_error(answer.body, "")
    if words:
        error = failure(kind, words, call)
    else:
        told = f" ({answer.location})" if answer.location else _excerpt(answer.body)
        message = f"{name(call)}: {endpoint} answered HTTP {status} without TensorFlow Serving's error text{told}"
        error = failure(kind, message, call)
    error.retry_after_s = _retry_after_s(answer.retry_after)
    if status == 413 and isinstance(error, ResourceExhausted):
        error.may_succeed_later = False
    return error


def _retry_after_s(header: str | None) -> float | None:
    """Read Retry-After, seconds or a date; None where it is neither.

    Source: RFC 9110, section 10.2.3.
    """
    if header is None:
        return None
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _excerpt(body: bytes) -> str:
    """Give the words of a proxy's page, if there are any."""
    text = re.sub(r"<(style|script|title)\b.*?</\1>|<[^>]*>", " ", body[:4096].decode("utf-8", "replace"), flags=re.S)
    words = " ".join(text.split())
    return f": {words[:_EXCERPT]}" if words and words.isprintable() else ""

"""The URL grammar of the REST API, matched against the path as it stands on the wire.

    POST /v1/models/NAME[/versions/N | /labels/L]:(predict|classify|regress)
    GET  /v1/models[/NAME][/versions/N | /labels/L][/metadata]

The query string belongs to the path and nothing is decoded before the match, so `/v1/models/m?x=1` asks for a model
named `m?x=1`. Case does not count in the match but does in what follows it: `:PREDICT` is malformed and `/METADATA`
gives the status.

Source: tensorflow_serving/model_servers/http_rest_api_util.cc, http_rest_api_handler.cc; what a URI is, libevent's
evhttp_uri_parse, as tensorflow_serving/util/net_http/server/internal/evhttp_request.cc calls it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.model_spec import ModelSpec

_PLACE = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFERENCE = re.compile(rf"/v1/models/(?P<name>[^/:]+){_PLACE}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_LOOK = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_PLACE}(?:/(?P<verb>metadata))?", re.IGNORECASE)


def _text(characters: bytes) -> bytes:
    return rb"[%b]*(?:%%[0-9A-Fa-f]{2}[%b]*)*" % (characters, characters)


_IN_PATH = rb"A-Za-z0-9\-._~!$&'()*+,;=:@/"
#: Path, query and fragment as RFC 3986 has them.
_URI = re.compile(rb"%b(?:\?%b)?(?:#%b)?" % (_text(_IN_PATH), _text(_IN_PATH + b"?"), _text(_IN_PATH + b"?")))

#: version numbers are int64.
_MAX_VERSION = (1 << 63) - 1
#: A longer run of digits without leading zeros is none; Python would also refuse to read thousands of them.
_MAX_DIGITS = 19


class Action(Enum):
    """What a request wants."""

    PREDICT = "predict"
    CLASSIFY = "classify"
    REGRESS = "regress"
    STATUS = "status"
    METADATA = "metadata"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Route:
    """A request's meaning; a list has an empty spec."""

    action: Action
    spec: ModelSpec


class BadVersion(InvalidArgument):
    """The version in the path is no int64; TensorFlow Serving answers 400 with an empty body."""


def is_uri(target: bytes) -> bool:
    """Whether a request's target is one that libevent can parse; TensorFlow Serving answers others with its page."""
    return _URI.fullmatch(target) is not None


def bare_path(target: str) -> str:
    """Give a target's path, without query and fragment."""
    return target.partition("#")[0].partition("?")[0]


def match(method: str, path: str) -> Route:
    """Read method and path.

    Args:
        method: "GET", "POST", ...
        path: Path and query as they came; it begins with /v1/.

    Raises:
        BadVersion: The version number is too large.
        InvalidArgument: There is no such route; TensorFlow Serving's text.
    """
    pattern = {"POST": _INFERENCE, "GET": _LOOK}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    malformed = InvalidArgument(f"Malformed request: {method} {path}")
    if found is None:
        raise malformed
    verb = found["verb"]
    spec = ModelSpec(_decode(found["name"]), _version(found["version"]), _decode(found["label"]) or None)
    if method == "POST":
        if verb not in (Action.PREDICT.value, Action.CLASSIFY.value, Action.REGRESS.value):
            raise malformed
        return Route(Action(verb), spec)
    if not spec.name:
        if verb or spec.version is not None or spec.label is not None:
            raise InvalidArgument("Missing model name in request.")
        return Route(Action.LIST, spec)
    return Route(Action.METADATA if verb == Action.METADATA.value else Action.STATUS, spec)


def _decode(text: str | None) -> str:
    return unquote(text, errors="surrogateescape") if text else ""


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > _MAX_DIGITS or int(digits) > _MAX_VERSION:
        raise BadVersion(f"Failed to convert version: {text} to numeric.")
    return int(digits)

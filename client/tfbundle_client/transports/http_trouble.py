"""What went wrong with an HTTP connection, in plain words."""

from __future__ import annotations

from http.client import BadStatusLine, RemoteDisconnected
from typing import Any

from tfbundle_serving.apis.errors import ApiError

from .address import Endpoint
from .messages import late, no_connection
from .transport import Call

#: An error within the last moments of a deadline is the deadline's: a timer may fire a little early.
_MOMENT_S = 0.002
_NO_HTTP = "the answer is not HTTP; is this the gRPC port?"


def read_trouble(error: BaseException, call: Call[Any], endpoint: Endpoint) -> ApiError:
    """Make the error of an exchange that ended without an answer.

    Returns:
        DeadlineExceeded where the time is up, else ConnectionFailed; what a library calls a timeout before that is its
        own limit for connecting.
    """
    left_s = call.deadline.remaining_s()
    if left_s is not None and left_s <= _MOMENT_S:
        return late(call, endpoint)
    return no_connection(_reason(error), call, endpoint)


def _reason(error: BaseException) -> str:
    """Find the plain words below the layers that the libraries wrap around them."""
    inner = getattr(error, "reason", None)  # of urllib3's MaxRetryError
    if not isinstance(inner, BaseException):
        inner = next((each for each in reversed(error.args) if isinstance(each, BaseException)), None)
    if inner is not None:
        return _reason(inner)
    if "Bad status line" in str(error):  # aiohttp's, with the bytes that came
        return _NO_HTTP
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return _NO_HTTP
    for each in (error, error.__cause__, error.__context__):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return " ".join(str(error).split()) or type(error).__name__

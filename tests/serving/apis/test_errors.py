"""The error tree, its codes and its HTTP statuses."""

from __future__ import annotations

import inspect

import grpc
import pytest

from tfbundle_serving.apis import errors
from tfbundle_serving.apis.errors import ApiError, BundleError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, BundleError)]

#: tensorflow_serving/model_servers/http_server.cc
HTTP_STATUSES = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


def drawn_tree() -> dict[str, str]:
    """Read class and parent from the tree that the module's docstring draws."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        name = words.split()[0] if words.split() else ""
        if name not in vars(errors):
            continue
        depth = (len(words) - len(words.lstrip())) // 4
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else "Exception"
    return parents


def test_the_drawn_tree_is_the_tree() -> None:
    """The docstring shows every class, each below its first base class."""
    assert drawn_tree() == {each.__name__: each.__bases__[0].__name__ for each in CLASSES}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_grpc_code_has_one_class(code: grpc.StatusCode) -> None:
    """Every gRPC status but OK has its class, with TensorFlow Serving's HTTP status and the canonical name."""
    number, _ = code.value
    kind = errors.BY_CODE[number]
    assert kind.code == number
    assert errors.STATUS_NAMES[number] == code.name == kind("x").status_name
    assert kind.http_status == HTTP_STATUSES[code.name]


@pytest.mark.parametrize("kind", errors.BY_CODE.values())
def test_an_http_status_comes_back_as_a_class_of_that_status(kind: type[ApiError]) -> None:
    """What a server answers for an error is read by a client as an error that would be answered so."""
    assert errors.BY_HTTP_STATUS[kind.http_status].http_status == kind.http_status


def test_statuses_of_proxies_are_known() -> None:
    """A bad gateway is worth another try, a body that is too large is not an internal error."""
    assert errors.BY_HTTP_STATUS[502] is errors.Unavailable
    assert errors.BY_HTTP_STATUS[413] is errors.ResourceExhausted


def test_an_error_carries_what_it_is_about() -> None:
    """Message, model, version and attempts can be read from the error; its text is the bare message."""
    error = errors.NotFound("Servable not found for request: Latest(m)", model="m", version="canary", attempts=2)
    assert str(error) == error.message == "Servable not found for request: Latest(m)"
    assert (error.model, error.version, error.attempts) == ("m", "canary", 2)


def test_a_deadline_is_a_timeout_error() -> None:
    """Code that catches Python's own TimeoutError catches ours."""
    with pytest.raises(TimeoutError, match="late"):
        raise errors.DeadlineExceeded("late")

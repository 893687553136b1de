"""The URL grammar."""

from __future__ import annotations

import pytest

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.server.rest_routes import Action, BadVersion, Route, match

GOOD = {
    "POST /v1/models/m:predict": Route(Action.PREDICT, ModelSpec("m")),
    "POST /v1/models/m/versions/007:classify": Route(Action.CLASSIFY, ModelSpec("m", 7)),
    "POST /v1/models/m/labels/l%2Fx:regress": Route(Action.REGRESS, ModelSpec("m", None, "l/x")),
    "POST /V1/Models/m:predict": Route(Action.PREDICT, ModelSpec("m")),
    "GET /v1/models/m": Route(Action.STATUS, ModelSpec("m")),
    "GET /v1/models/a%2Fb%3Ac": Route(Action.STATUS, ModelSpec("a/b:c")),
    "GET /v1/models/m?x=1": Route(Action.STATUS, ModelSpec("m?x=1")),
    "GET /v1/models/m/versions/3": Route(Action.STATUS, ModelSpec("m", 3)),
    "GET /v1/models/m/labels/l": Route(Action.STATUS, ModelSpec("m", None, "l")),
    "GET /v1/models/m/metadata": Route(Action.METADATA, ModelSpec("m")),
    "GET /v1/models/m/versions/3/metadata": Route(Action.METADATA, ModelSpec("m", 3)),
    "GET /v1/models/m/METADATA": Route(Action.STATUS, ModelSpec("m")),
    "GET /v1/models": Route(Action.LIST, ModelSpec("")),
}

MALFORMED = [
    *("POST /v1/models/m", "POST /v1/models/m:predict?x=1", "POST /v1/models/m:PREDICT", "POST /v1/models/m/metadata"),
    *("GET /v1/models/m:predict", "GET /v1/models/m/", "GET /v1/models/m/version/5", "GET /v1/models/m/versions/abc"),
    *("GET /v1/models/m/versions/1/labels/l", "PUT /v1/models/m", "DELETE /v1/models/m", "HEAD /v1/models/m"),
    *("GET /v1/model", "POST /v1/models/:predict"),
]


@pytest.mark.parametrize("line", GOOD)
def test_routes(line: str) -> None:
    """Every form of a path has its meaning."""
    method, path = line.split(" ")
    assert match(method, path) == GOOD[line]


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed(line: str) -> None:
    """Everything else is malformed, never "method not allowed"."""
    method, path = line.split(" ")
    with pytest.raises(InvalidArgument) as caught:
        match(method, path)
    assert caught.value.message == f"Malformed request: {line}"


def test_a_version_past_int64() -> None:
    """A number that is no int64 is said to be none."""
    assert match("GET", f"/v1/models/m/versions/{2**63 - 1}").spec.version == 2**63 - 1
    for text in (str(2**63), "9" * 5000):
        with pytest.raises(BadVersion, match=f"Failed to convert version: {text} to numeric."):
            match("GET", f"/v1/models/m/versions/{text}")

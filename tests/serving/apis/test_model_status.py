"""GetModelStatus on the wire and as JSON, against the official classes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_status_pb2

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import (
    State,
    VersionStatus,
    decode_status_request,
    decode_status_response,
    encode_status_request,
    encode_status_response,
    status_from_json,
    status_to_json,
)

STATUSES = [
    VersionStatus(2**40, State.AVAILABLE),
    VersionStatus(3, State.END, 3, 'Could not load: "x"\nGrüße'),
    VersionStatus(2, State.LOADING),
    VersionStatus(1, State.UNLOADING),
    VersionStatus(0, State.START),
]


def official() -> Any:
    """The same statuses as the official message."""
    message = get_model_status_pb2.GetModelStatusResponse()
    for status in STATUSES:
        each = message.model_version_status.add(version=status.version, state=status.state.value)
        each.status.SetInParent()
        each.status.error_code = status.error_code
        each.status.error_message = status.error_message
    return message


def official_json(message: Any) -> Any:
    """Print a message the way TensorFlow Serving's REST API does."""
    return json.loads(
        json_format.MessageToJson(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
    )


def test_states_are_the_official_ones() -> None:
    """Names and numbers of the states are those of the proto."""
    numbers = dict(get_model_status_pb2.ModelVersionStatus.State.items())
    assert numbers == {state.name: state.value for state in State}


def test_the_response_goes_both_ways() -> None:
    """The response is the official bytes, written and read."""
    assert get_model_status_pb2.GetModelStatusResponse.FromString(encode_status_response(STATUSES)) == official()
    assert decode_status_response(official().SerializeToString()) == STATUSES


def test_the_request_goes_both_ways() -> None:
    """The request carries the spec; without one it says so."""
    spec = ModelSpec("digits", version=3)
    message = get_model_status_pb2.GetModelStatusRequest.FromString(encode_status_request(spec))
    assert (message.model_spec.name, message.model_spec.version.value) == ("digits", 3)
    assert decode_status_request(message.SerializeToString()) == spec
    assert decode_status_request(b"") is None


def test_the_json_is_the_official_one() -> None:
    """The REST body is protobuf's JSON of the response, and is read back."""
    assert status_to_json(STATUSES) == official_json(official())
    assert status_from_json(status_to_json(STATUSES)) == STATUSES


def test_an_unknown_state_is_read_as_unknown() -> None:
    """A state that later servers add does not break the client."""
    message = get_model_status_pb2.GetModelStatusResponse()
    message.model_version_status.add(version=1, state=99)
    assert decode_status_response(message.SerializeToString()) == [VersionStatus(1, State.UNKNOWN)]


def test_only_available_is_available() -> None:
    """A version answers requests in one state only."""
    assert [status.is_available for status in STATUSES] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "body", [{}, {"model_version_status": [{}]}, {"model_version_status": 3}, {"error": "no"}, {"a": None}], ids=str
)
def test_other_json_is_refused(body: dict[str, Any]) -> None:
    """A body that is no status is a DecodeError, not a KeyError."""
    with pytest.raises(DecodeError, match="not a model status"):
        status_from_json(body)

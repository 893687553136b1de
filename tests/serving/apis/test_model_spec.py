"""ModelSpec on the wire and in REST paths."""

from __future__ import annotations

from typing import Any

import pytest
from tensorflow_serving.apis import model_pb2

from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.model_spec import ModelSpec, decode_model_spec, encode_model_spec

SPECS: dict[str, tuple[ModelSpec, dict[str, Any]]] = {
    "name only": (ModelSpec("digits"), {"name": "digits"}),
    "version": (ModelSpec("digits", version=3), {"name": "digits", "version": {"value": 3}}),
    "version zero": (ModelSpec("digits", version=0), {"name": "digits", "version": {"value": 0}}),
    "huge version": (ModelSpec("m", version=2**63 - 1), {"name": "m", "version": {"value": 2**63 - 1}}),
    "label": (ModelSpec("digits", label="canary"), {"name": "digits", "version_label": "canary"}),
    "empty label": (ModelSpec("digits", label=""), {"name": "digits", "version_label": ""}),
    "signature": (ModelSpec("Grüße", signature="embed"), {"name": "Grüße", "signature_name": "embed"}),
    "nothing": (ModelSpec(""), {}),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_spec_is_the_official_bytes(case: str) -> None:
    """A ModelSpec is written and read as the official class does it."""
    spec, fields = SPECS[case]
    message = model_pb2.ModelSpec(**fields)
    assert model_pb2.ModelSpec.FromString(encode_model_spec(spec)) == message
    assert decode_model_spec(message.SerializeToString()) == spec


@pytest.mark.parametrize("first", ["version", "label"])
def test_of_version_and_label_the_last_counts(first: str) -> None:
    """Version and label are a oneof: of two on the wire the official class keeps the last, and so do we."""
    version = model_pb2.ModelSpec(version={"value": 4}).SerializeToString()
    label = model_pb2.ModelSpec(version_label="stable").SerializeToString()
    message = version + label if first == "version" else label + version
    official = model_pb2.ModelSpec.FromString(message)
    spec = decode_model_spec(message)
    assert (spec.label == "stable") == (official.WhichOneof("version_choice") == "version_label")
    assert (spec.version == 4) == (official.WhichOneof("version_choice") == "version")


def test_version_and_label_together_are_refused() -> None:
    """A request asks for a version or for a label."""
    with pytest.raises(InvalidArgument, match="not both"):
        ModelSpec("digits", version=1, label="stable")


def test_a_number_where_a_name_belongs_is_refused() -> None:
    """A field of the wrong wire type names the field."""
    with pytest.raises(DecodeError, match=r"model_spec\.name is a number"):
        decode_model_spec(b"\x08\x01")


def test_the_path_is_percent_encoded() -> None:
    """Names and labels may hold any character but need escaping in a path."""
    assert ModelSpec("a/b c", version=3).url_path == "/v1/models/a%2Fb%20c/versions/3"
    assert ModelSpec("m", label="x:y").url_path == "/v1/models/m/labels/x%3Ay"
    assert ModelSpec("m").url_path == "/v1/models/m"


def test_a_spec_reads_as_a_person_says_it() -> None:
    """Messages name the version or the label."""
    assert [str(ModelSpec("m")), str(ModelSpec("m", 3)), str(ModelSpec("m", label="a"))] == [
        "m",
        "m version 3",
        "m label a",
    ]
    assert ModelSpec("m").signature_key == "serving_default"
    assert ModelSpec("m", signature="embed").signature_key == "embed"

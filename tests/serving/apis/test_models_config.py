"""models.config as clients write it, judged by the official protobuf messages."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.models_config import encode_models_config

TEXT = r"""
# Two ways to write a message, strings in pieces, lists, separators.
model_config_list: {
  config: {
    name: "di" 'gits\x41' base_path: "/m\303\244", model_platform: "tensorflow";
    model_version_policy { specific { versions: 1 versions: [2, 0x3] } }
    version_labels { key: "a" value: 1 } version_labels < key: "b" value: 0 >
  }
  config { name: "x" base_path: "/x" model_type: TENSORFLOW model_version_policy { all {} }
    logging_config { sampling_config { sampling_rate: 0.5 } } }
  config { name: "y" base_path: "/y" model_version_policy { latest { num_versions: 2 } } }
}
"""


def _parse(text: str) -> Any:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _read(data: bytes) -> Any:
    return model_server_config_pb2.ModelServerConfig.FromString(data)


def test_text() -> None:
    """The text form means what protobuf's own reader makes of it."""
    assert _read(encode_models_config(TEXT)) == _parse(TEXT)
    assert encode_models_config("") == b""


def test_messages_and_bytes() -> None:
    """A protobuf message and its bytes are taken as they are."""
    message = _parse(TEXT)
    assert _read(encode_models_config(message)) == message
    assert encode_models_config(b"\x0a\x00") == b"\x0a\x00"


def test_mappings() -> None:
    """Mappings have the names of the text form; labels may be a plain mapping, and one model needs no list."""
    model = {
        "name": "digits",
        "base_path": "/models/digits",
        "model_platform": "tensorflow",
        "model_version_policy": {"specific": {"versions": [1, 3]}},
        "version_labels": {"stable": 1, "canary": 3},
    }
    written = _read(encode_models_config({"model_config_list": {"config": model}}))
    (found,) = written.model_config_list.config
    assert (found.name, list(found.model_version_policy.specific.versions)) == ("digits", [1, 3])
    assert dict(found.version_labels) == {"stable": 1, "canary": 3}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a b", "line 1: expected ':' or '{', got 'b'"),
        ("model_config_list {\n", "line 2: expected a field's name, got 'the end'"),
        ("model_config_list { config { name: 3 } }", "model_config_list.config.name is a string, got '3'"),
        ('model_config_list { config { name: "a } }', "is not text format"),
        ("models: 1", "ModelServerConfig has no field 'models'; its fields are model_config_list"),
        ("model_config_list: [ {} ", "expected ',' or ']', got 'the end'"),
        ({"model_config_list": []}, "model_config_list is a ModelConfigList, got"),
        ({"model_config_list": {"config": [{"version_labels": {"a": "1"}}]}}, "value is a int64, got '1'"),
        (3, "expected text, mappings or bytes, got int"),
    ],
)
def test_what_is_none_is_refused(wrong: Any, message: str) -> None:
    """The message says where and what was expected, and nothing was sent."""
    with pytest.raises(InvalidArgument) as caught:
        encode_models_config(wrong)
    assert message in str(caught.value)
    assert caught.value.attempts == 0

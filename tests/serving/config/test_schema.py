"""The configuration messages, held against TensorFlow Serving's own where its package has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfbundle_serving.apis.errors import InvalidArgument, NotFound
from tfbundle_serving.config.schema import message_class, parse_text, read_text

FULL = """
model_config_list {
  config {
    name: "a" base_path: "/m/a" model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 7 } }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary" value: 7 }
    logging_config {
      log_collector_config { type: "t" filename_prefix: "p" }
      sampling_config { sampling_rate: 0.5 attributes: 3 }
      custom_logging_config { [type.googleapis.com/tensorflow.serving.SamplingConfig] { sampling_rate: 0.25 } }
    }
  }
  config { name: "b" base_path: "/m/b" model_type: TENSORFLOW model_version_policy { all {} } }
  config {
    name: "c" base_path: "/m/c" model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } }
  }
}
"""


def test_bytes_equal_the_official_message() -> None:
    """Names and numbers of all fields are TensorFlow Serving's: one text gives the same bytes through both."""
    official = text_format.Parse(FULL, model_server_config_pb2.ModelServerConfig())
    ours = parse_text(FULL, "ModelServerConfig")
    assert ours.SerializeToString(deterministic=True) == official.SerializeToString(deterministic=True)
    again = message_class("ModelServerConfig").FromString(official.SerializeToString())
    assert again == ours


def test_a_mistake_is_located(tmp_path: Path) -> None:
    """A file that is no such message is named, with line and column."""
    path = tmp_path / "models.config"
    path.write_text('model_config_list {\n  config { nam: "a" }\n}')
    with pytest.raises(InvalidArgument, match=r"Invalid protobuf file: '.*models.config'.*2:12.*nam"):
        read_text(path, "ModelServerConfig")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A binary file is said to be no protobuf text."""
    path = tmp_path / "models.config"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match="Invalid protobuf file"):
        read_text(path, "ModelServerConfig")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(NotFound, match=r"absent\.config"):
        read_text(tmp_path / "absent.config", "MonitoringConfig")

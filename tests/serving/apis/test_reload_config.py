"""The messages of HandleReloadConfigRequest, judged by the official classes."""

from __future__ import annotations

import pytest
from tensorflow_serving.apis import model_management_pb2

from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.reload_config import (
    ReloadReply,
    ReloadRequest,
    decode_reload_reply,
    decode_reload_request,
    encode_reload_reply,
    encode_reload_request,
)


def test_a_request() -> None:
    """Config and metric names there and back; no config is told from an empty one."""
    official = model_management_pb2.ReloadConfigRequest(metric_names=["/a/b", "c"])
    assert decode_reload_request(official.SerializeToString()) == ReloadRequest(None, ("/a/b", "c"))
    official.config.model_config_list.config.add(name="m", base_path="/m", model_platform="tensorflow")
    ours = decode_reload_request(official.SerializeToString())
    assert ours == ReloadRequest(official.config.SerializeToString(), ("/a/b", "c"))
    assert model_management_pb2.ReloadConfigRequest.FromString(encode_reload_request(ours)) == official


def test_a_config_in_two_parts() -> None:
    """Protobuf merges them."""
    parts = []
    for name in ("a", "b"):
        part = model_management_pb2.ReloadConfigRequest()
        part.config.model_config_list.config.add(name=name)
        parts.append(part.SerializeToString())
    joined = b"".join(parts)
    official = model_management_pb2.ReloadConfigRequest.FromString(joined)
    config = decode_reload_request(joined).config
    assert type(official.config).FromString(config or b"") == official.config


def test_a_reply() -> None:
    """Status and metrics there and back."""
    ours = ReloadReply(3, "no", {"/a/b": 5, "c": 0})
    official = model_management_pb2.ReloadConfigResponse.FromString(encode_reload_reply(ours))
    assert (official.status.error_code, official.status.error_message) == (3, "no")
    assert {each.name: each.int64_value_increase for each in official.metric} == {"/a/b": 5, "c": 0}
    assert decode_reload_reply(official.SerializeToString()) == ours
    assert decode_reload_reply(encode_reload_reply(ReloadReply())) == ReloadReply()


@pytest.mark.parametrize("data", [b"\x08\x01", b"\x0a\x05", b"\x12\x02\xff"])
def test_other_bytes(data: bytes) -> None:
    """They are refused, not misread."""
    with pytest.raises(DecodeError):
        decode_reload_request(data)

"""Which labels may be assigned, and that a label and its version may arrive together at start."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.serving.server.conftest import publish
from tfbundle_client import Client
from tfbundle_serving.apis.errors import FailedPrecondition
from tfbundle_serving.apis.version_policy import Latest
from tfbundle_serving.config.models import ModelConfig
from tfbundle_serving.server import lifecycle
from tfbundle_serving.server.lifecycle import Server
from tfbundle_serving.server.settings import LoadSettings, ServerSettings
from tfbundle_serving.server.version_labels import check_labels


@pytest.mark.parametrize(
    ("now", "wanted", "allow_unavailable", "is_allowed"),
    [
        ({}, 1, False, True),
        ({}, 9, False, False),
        ({}, 9, True, True),
        ({"a": 2}, 1, False, True),
        ({"a": 2}, 9, False, False),
        ({"a": 2}, 9, True, False),
        ({"a": 9}, 9, True, True),
        ({"a": 9}, 9, False, False),
        ({"other": 1}, 9, True, True),
    ],
)
def test_which_labels_may_be_assigned(
    now: dict[str, int], wanted: int, allow_unavailable: bool, is_allowed: bool
) -> None:
    """To versions that answer, always; to others only with the flag, and only if the label is new or stays."""
    model = ModelConfig(name="m", base_path="/m", labels={"a": wanted})
    if is_allowed:
        check_labels(model, now=now, versions={1, 2}, allow_unavailable=allow_unavailable)
        return
    with pytest.raises(FailedPrecondition) as caught:
        check_labels(model, now=now, versions={1, 2}, allow_unavailable=allow_unavailable)
    assert caught.value.message == (
        "Request to assign label to version 9 of model m, which is not currently available for inference"
    )


def test_every_labelled_version_is_waited_for(tiny_models: Path, half_plus_ten: Path, tmp_path: Path) -> None:
    """The server listens once all of them answer, though one version of the model would do without labels."""
    publish(tiny_models / "half_plus_two/123", tmp_path, 1)
    publish(half_plus_ten, tmp_path, 2)
    model = ModelConfig(
        name="m", base_path=str(tmp_path), policy=Latest(num_versions=2), labels={"stable": 1, "canary": 2, "too": 2}
    )
    server = Server(ServerSettings(models=(model,), rest_port=None, loading=LoadSettings(max_retries=0)))
    server.start()
    try:
        with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
            x = np.array([2.0], np.float32)
            found = {label: float(client.predict("m", x, label=label)["y"][0]) for label in model.labels}
        assert found == {"stable": 3.0, "canary": 11.0, "too": 11.0}
    finally:
        server.stop()


def test_a_labelled_version_that_cannot_be_loaded(
    tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While its tries are waited for, the log says so once; then the error names the flag that does without it."""
    publish(tiny_models / "half_plus_two/123", tmp_path, 1)
    (tmp_path / "2").mkdir()
    (tmp_path / "2/saved_model.pb").touch()
    monkeypatch.setattr(lifecycle, "_SILENT_S", 0.2)
    model = ModelConfig(
        name="m", base_path=str(tmp_path), policy=Latest(num_versions=2), labels={"stable": 1, "canary": 2}
    )
    loading = LoadSettings(max_retries=1, retry_interval_s=1.5)
    with (
        caplog.at_level(logging.INFO, logger="tfbundle_serving"),
        pytest.raises(FailedPrecondition, match=r"version 2 of model m, .*without it, add --allow_version_labels_for_"),
    ):
        Server(ServerSettings(models=(model,), rest_port=None, loading=loading)).start()
    said = [line for line in caplog.messages if "waits for" in line]
    assert "waits for m version 2 (label canary); --allow_version_labels" in said[-1]
    assert len(said) == len(set(said))

"""Fixtures of the server's tests: models on disk that a test may change, and versions in this process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.models import save_half_plus
from tests.serving.server.grpc_echo import Echo, echo_server
from tests.serving.server.http2_peer import HELLO, Peer, call, message

#: What a loaded machine may need for something that takes a fraction of a second.
PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain for {what}"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def half_plus_ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version folder that answers differently from half_plus_two: y = x / 2 + 10."""
    return save_half_plus(tmp_path_factory.mktemp("half_plus_ten") / "1", addend=10.0)


def publish(version_folder: Path, base_path: Path, version: int) -> Path:
    """Copy a version folder under a number, by one rename as the exporter does."""
    staging = base_path / f".staging-{version}"
    shutil.copytree(version_folder, staging)
    return staging.rename(base_path / str(version))


@pytest.fixture(scope="session")
def batchable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version folders of models whose rows are independent, each declared batchable."""
    from tests.serving.server.batching_version import save_batchable

    return save_batchable(tmp_path_factory.mktemp("batchable"))


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A gRPC server that echoes, in this process."""
    with echo_server() as running:
        yield running


@pytest.fixture
def peer(echo: Echo) -> Iterator[Peer]:
    """A connection to it; after the test the server still answers others."""
    with Peer(echo) as opened:
        yield opened
    with Peer(echo) as other:
        other.send(HELLO, call(1))
        assert other.answer(1)[0] == message(b"hi")

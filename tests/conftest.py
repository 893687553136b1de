"""Fixtures that every room's tests share: tiny models on disk and one running server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.models import save_catalogue
from tests.servers import RunningServer, running_server


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Leave out what builds an image and starts containers, unless it is asked for: it takes minutes."""
    if os.environ.get("TFBUNDLE_CONTAINERS"):
        return
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.skip(reason="runs in containers: `make containers`"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with every model of tests.models.CATALOGUE; tests must not change it."""
    return save_catalogue(tmp_path_factory.mktemp("tiny_models"))


@pytest.fixture(scope="session")
def server(tiny_models: Path) -> Iterator[RunningServer]:
    """One `tfbundle serve` process over the tiny models, shared by the whole run."""
    with running_server(str(tiny_models)) as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def url(request: pytest.FixtureRequest, server: RunningServer) -> str:
    """The shared server's address, once for each transport."""
    return server.grpc_url if request.param == "grpc" else server.rest_url

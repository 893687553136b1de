"""Fixtures of the tests from end to end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.site import Site, running_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for the workflows of a file, which finds each model when it appears."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running

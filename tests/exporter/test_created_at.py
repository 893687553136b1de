"""The moment in metadata.json: told, from the environment, or the clock's."""

from __future__ import annotations

import datetime

import pytest

from tfbundle_exporter.folder.created_at import read_created_at
from tfbundle_serving.apis.errors import ExportError


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-11-21T07:24:35Z", "2026-11-21T07:24:35Z"),
        ("2026-11-21T09:24:35+02:00", "2026-11-21T07:24:35Z"),
        ("2026-11-21 07:24:35", "2026-11-21T07:24:35Z"),
        ("2026-11-21", "2026-11-21T00:00:00Z"),
        (0, "1970-01-01T00:00:00Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
    ],
)
def test_moments(given: str | float, moment: str) -> None:
    """Every usual form is read; without an offset it is UTC."""
    assert read_created_at(given) == moment


@pytest.mark.parametrize("given", ["yesterday", "", "1e400", "2026-13-01"])
def test_what_is_no_moment(given: str) -> None:
    """The option is named, and how a time is written."""
    with pytest.raises(ExportError, match=r"created_at \(--created-at\) must be a time such as 2026-"):
        read_created_at(given)


def test_the_environment_then_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """SOURCE_DATE_EPOCH stands in for the clock, and is named where it is wrong."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert read_created_at(None) == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(ExportError, match="SOURCE_DATE_EPOCH must be a time"):
        read_created_at(None)
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    assert before.isoformat().replace("+00:00", "Z") <= read_created_at(None)

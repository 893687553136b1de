"""The moment that metadata.json gives for a version's making."""

from __future__ import annotations

import datetime
import os

from tfbundle_serving.apis.errors import ExportError

_UTC = datetime.timezone.utc


def read_created_at(given: str | float | None) -> str:
    """Give a moment in UTC as RFC 3339, whole seconds.

    Args:
        given: RFC 3339 ("2026-11-21T07:24:35Z", with an offset or without, which is UTC), or seconds since 1970. None
            takes SOURCE_DATE_EPOCH, as other reproducible builds do, or else the clock.

    Raises:
        ExportError: It is neither.
    """
    name = "created_at (--created-at)"
    if given is None:
        given = os.environ.get("SOURCE_DATE_EPOCH") or None
        name = "SOURCE_DATE_EPOCH"
    try:
        moment = datetime.datetime.now(_UTC) if given is None else _parse(given)
        return moment.astimezone(_UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError) as error:
        raise ExportError(
            f"{name} must be a time such as 2026-11-21T07:24:35Z, or seconds since 1970; got {given!r}"
        ) from error


def _parse(given: str | float) -> datetime.datetime:
    text = str(given).strip()
    try:
        return datetime.datetime.fromtimestamp(float(text), _UTC)
    except ValueError:
        # fromisoformat reads a Z from Python 3.11 on only.
        moment = datetime.datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
        return moment if moment.tzinfo else moment.replace(tzinfo=_UTC)

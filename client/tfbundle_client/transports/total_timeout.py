"""Timeouts of `requests` that mean the whole answer; see `timed_connections`.

Mount it into a session of your own with `session.mount("http://", TotalTimeoutAdapter())`.
"""

from __future__ import annotations

from typing import Any

from requests.adapters import HTTPAdapter

from .timed_connections import timed_pools


class TotalTimeoutAdapter(HTTPAdapter):
    """An HTTPAdapter whose read timeout is for the whole answer."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = timed_pools()

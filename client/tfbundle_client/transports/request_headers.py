"""The headers of a request: those of the connection, the token, and those of the one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .connection import Connection
from .transport import Call

#: Names in lower case, as HTTP/2 wants them, and values.
Headers = tuple[tuple[str, str], ...]


class RequestHeaders:
    """Gives each call its headers; what is the same for all is put together once."""

    def __init__(self, connection: Connection) -> None:
        fixed = [(name.lower(), value) for name, value in connection.headers.items()]
        self._ask_token: Callable[[], str] | None = None
        if isinstance(connection.bearer_token, str):
            fixed.append(_bearer(connection.bearer_token))
        else:
            self._ask_token = connection.bearer_token
        self.fixed: Headers = tuple(fixed)

    def of(self, call: Call[Any]) -> Headers:
        """Give a call's headers; the very object `fixed` where there is nothing to add."""
        headers = self.fixed
        if self._ask_token is not None:
            headers += (_bearer(self._ask_token()),)
        return headers + tuple(call.headers) if call.headers else headers


def _bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"

"""The headers of a request: those of the connection, the token, and those of the one call."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tfbundle_serving.apis.errors import InvalidArgument

from .connection import Connection
from .transport import Call

#: Names in lower case, as HTTP/2 wants them, and values.
Headers = tuple[tuple[str, str], ...]

#: Printable ASCII without blanks.
_TOKEN = re.compile(r"[\x21-\x7e]+")


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
        """Give a call's headers; the very object `fixed` where there is nothing to add.

        The call's own ones stand in place of those of the connection that have the same name.

        Raises:
            InvalidArgument: The function that gives tokens gave one that is none.
        """
        headers = self.fixed
        if self._ask_token is not None:
            headers += (_bearer(self._ask_token()),)
        if not call.headers:
            return headers
        replaced = {name for name, _ in call.headers}
        return (*(each for each in headers if each[0] not in replaced), *call.headers)


def _bearer(token: str) -> tuple[str, str]:
    token = token.strip()  # one that was read from a file ends with the line
    if not _TOKEN.fullmatch(token):
        raise InvalidArgument("the bearer token is empty, or has characters that no header can carry", attempts=0)
    return "authorization", f"Bearer {token}"

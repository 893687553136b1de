"""The REST API of a worker: its monitoring page shows what all workers counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .rest_api import RestApi

#: Shows the metrics of all workers.
ShowAll = Callable[[], Awaitable[bytes]]


class WorkerRestApi(RestApi):
    """Answers like the REST API, but for the numbers.

    Args:
        show_all: Gives the page's text.
        options: Those of `RestApi`.
    """

    def __init__(self, *options: Any, show_all: ShowAll, **more: Any) -> None:
        super().__init__(*options, **more)
        self._show_all = show_all

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        monitoring = self._monitoring
        if not monitoring.enable or scope["type"] != "http" or scope["path"] != monitoring.path:
            await super().__call__(scope, receive, send)
            return
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await super().__call__(scope, receive, keep)
        start, body = messages
        if start["status"] == 200 and body["body"]:
            body["body"] = await self._show_all()
            other = [(name, value) for name, value in start["headers"] if name != b"content-length"]
            start["headers"] = [*other, (b"content-length", str(len(body["body"])).encode())]
        await send(start)
        await send(body)

"""One predict by a client of either kind, made with whatever settings a test is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.client.conftest import Behaviour
from tfbundle_client import AsyncClient, Client

Listening = Callable[[Behaviour], AbstractContextManager[int]]

KINDS = [Client, AsyncClient]


def call(kind: Any, url: str, times: int = 1, **options: Any) -> list[float]:
    """Predict some times with one client of either kind, and give the last answer."""
    if kind is Client:
        with Client(url, **options) as client:
            for _ in range(times):
                reply = client.predict("half_plus_two", [2.0])
        return list(reply.output.tolist())

    async def ask() -> list[float]:
        async with AsyncClient(url, **options) as client:
            for _ in range(times):
                reply = await client.predict("half_plus_two", [2.0])
            return list(reply.output.tolist())

    return asyncio.run(ask())

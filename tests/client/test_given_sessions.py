"""Sessions, channels and event loops that are the caller's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.client.calling import call
from tests.servers import RunningServer
from tfbundle_client import AsyncClient, Client, InvalidArgument


def test_a_session_or_channel_of_ones_own(server: RunningServer) -> None:
    """A session, a channel, and their asynchronous kin are used, and stay open when the client closes."""
    import aiohttp
    import grpc.aio
    import requests

    with requests.Session() as session:
        assert call(Client, server.rest_url, session=session) == [3.0]
        assert session.get(f"{server.rest_url}/v1/models/half_plus_two").ok
    with grpc.insecure_channel(server.grpc_target) as channel:
        for _ in range(2):
            assert call(Client, server.grpc_url, channel=channel) == [3.0]

    async def asynchronous() -> None:
        async with aiohttp.ClientSession() as session, grpc.aio.insecure_channel(server.grpc_target) as channel:
            for _ in range(2):
                async with AsyncClient(server.rest_url, session=session) as client:
                    assert (await client.predict("half_plus_two", [2.0])).output.tolist() == [3.0]
                async with AsyncClient(server.grpc_url, channel=channel) as client:
                    assert (await client.predict("half_plus_two", [2.0])).output.tolist() == [3.0]

    asyncio.run(asynchronous())
    with (
        grpc.insecure_channel(server.grpc_target) as channel,
        pytest.raises(InvalidArgument, match=r"takes a grpc\.aio"),
    ):
        AsyncClient(server.grpc_url, channel=channel)


def test_one_async_client_in_several_loops(url: str) -> None:
    """An AsyncClient connects anew in each event loop."""
    client = AsyncClient(url)

    async def ask() -> Any:
        async with client_closing(client):
            return (await client.status("half_plus_two"))[0].version

    assert {asyncio.run(ask()) for _ in range(2)} == {123}


class client_closing:  # noqa: N801  # reads like contextlib.aclosing
    """Close the transport's connections in this loop, and leave the client usable."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *_: object) -> None:
        await self._client._transport.close()

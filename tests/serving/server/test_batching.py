"""Requests that run together: who meets whom, and what each gets back."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.servers import running_server
from tests.serving.server.batching_version import ALONE, JOINED, Version, floats, ints
from tfbundle_client import Client
from tfbundle_serving.apis.errors import (
    InvalidArgument,
)
from tfbundle_serving.config.batching import BatchingSettings


def test_requests_of_one_moment_run_together(batchable: Path) -> None:
    """Where metadata.json says batchable, each gets its own rows of one run."""
    version = Version(batchable / "half", JOINED)
    requests = [{"x": np.arange(count, dtype=np.float32) + 10 * count} for count in (1, 2, 1, 3)]
    for request, answer in zip(requests, version.ask_all(requests), strict=True):
        np.testing.assert_array_equal(answer["y"], request["x"] / 2 + 2)
    assert version.rows() == [7]


@pytest.mark.parametrize(("metadata", "batching"), [('{"batchable": true}', ALONE), ("{}", JOINED), ("[", JOINED)])
def test_requests_run_alone_otherwise(
    batchable: Path, tmp_path: Path, metadata: str, batching: BatchingSettings
) -> None:
    """--enable_batching=false wins, and so does a metadata.json that does not say batchable."""
    folder = shutil.copytree(batchable / "half", tmp_path / "1")
    (folder / "metadata.json").write_text(metadata)
    version = Version(folder, batching)
    assert [float(each["y"][0]) for each in version.ask_all([{"x": [np.float32(i)]} for i in range(3)])] == [2, 2.5, 3]
    assert version.rows() == [1, 1, 1]


def test_only_the_same_is_joined(batchable: Path) -> None:
    """Other outputs, signatures and row shapes run apart, each right."""
    version = Version(batchable / "two_inputs", JOINED)
    a = np.ones((1, 3), np.float32)
    plain = {"a": a, "b": a, "outputs": ("sum",)}
    answers = version.ask_all(
        [plain, plain, {**plain, "outputs": ("product",)}, {**plain, "signature": "only_sum"}, {**plain, "b": a[:, :2]}]
    )
    assert version.rows().count(2) == 1
    assert [answer["sum"].tolist() for answer in answers[:2]] == [[[2, 2, 2]]] * 2
    assert answers[2]["product"].tolist() == [[6]]
    assert answers[3]["sum"].tolist() == [[2, 2, 2]]
    assert isinstance(answers[4], InvalidArgument)


def test_what_gathers_during_a_run_goes_together(batchable: Path) -> None:
    """While one run is under way the next requests gather, and start as soon as it ends."""
    version = Version(batchable / "slow", JOINED)

    async def ask() -> None:
        first = asyncio.ensure_future(version.ask(n=ints([1000]), x=floats([0])))
        while not version.servable.given:
            await asyncio.sleep(0)
        answers = await asyncio.gather(*(version.ask(n=ints([1]), x=floats([i])) for i in range(5)))
        assert [answer["y"].tolist() for answer in answers] == [[i] for i in range(5)]
        await first

    asyncio.run(ask())
    assert version.rows() == [1, 5]


def test_only_the_bad_request_fails(batchable: Path) -> None:
    """What the graph refuses in one request is run request by request."""
    version = Version(batchable / "numbers", JOINED)
    texts = [b"1", b"2", b"three", b"4"]
    answers = version.ask_all([{"text": np.array([text], object)} for text in texts])
    assert [each["y"].tolist() for each in answers if isinstance(each, dict)] == [[1], [2], [4]]
    assert isinstance(answers[2], InvalidArgument)
    assert version.rows() == [4, 1, 1, 1, 1]


def test_over_the_wire(batchable: Path, tmp_path: Path) -> None:
    """Forty clients at once over both protocols get the rows that they asked for, with padding and all."""
    shutil.copytree(batchable / "half", tmp_path / "models" / "half" / "1")
    config = tmp_path / "batching.config"
    config.write_text("max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 32")
    flags = ("--enable_batching", f"--batching_parameters_file={config}")
    with running_server(str(tmp_path / "models"), *flags) as server, ThreadPoolExecutor(40) as pool:
        for url in (server.grpc_url, server.rest_url):
            with Client(url) as client:

                def ask(i: int, client: Client = client) -> list[float]:
                    x = np.arange(i, i + 1 + i % 3, dtype=np.float32)
                    np.testing.assert_array_equal(client.predict("half", x)["y"], x / 2 + 2)
                    return []

                list(pool.map(ask, range(200)))

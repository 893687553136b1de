"""What the flags and the parameters file ask of batches: sizes, padding, waiting, queues, splitting."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.server.batching_version import ALONE, FOREVER, JOINED, Recording, Version, asked, floats, ints
from tfbundle_serving.apis.errors import (
    ApiError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Unavailable,
)
from tfbundle_serving.config.batching import BatchingParameters, BatchingSettings
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.settings import settings_from_flags


def test_batches_have_limits(batchable: Path) -> None:
    """Many rows are several batches; a request larger than a batch runs alone where nobody asked for batches."""
    version = Version(batchable / "half", JOINED)
    version.ask_all([{"x": np.zeros(200, np.float32)} for _ in range(4)] + [{"x": np.zeros(5000, np.float32)}])
    assert sorted(version.rows()) == [400, 400, 5000]
    version = Version(batchable / "sums", JOINED)
    version.ask_all([{"x": np.zeros((1, 1 << 16), np.float32)} for _ in range(48)])
    version.ask_all([{"x": np.zeros((1, 1 << 17), np.float32)} for _ in range(2)])
    assert version.rows() == [32, 16, 1, 1]


def test_allowed_batch_sizes(batchable: Path) -> None:
    """Batches are rounded up by the first row of the last request; nobody sees those rows."""
    version = Version(batchable / "half", asked(max_batch_size=8, allowed_batch_sizes=(4, 8)))
    answers = version.ask_all([{"x": floats([1, 2])}, {"x": floats([5, 6, 7])}])
    assert [answer["y"].tolist() for answer in answers] == [[2.5, 3], [4.5, 5, 5.5]]
    assert [given["x"].tolist() for given in version.servable.given] == [[1, 2, 5, 6, 7, 5, 5, 5]]


def test_rows_of_different_lengths(batchable: Path) -> None:
    """They are padded with the first element of each request, where the parameters say so, else they run apart."""
    requests = [{"x": floats([[1, 2]])}, {"x": floats([[3, 4, 5]])}]
    version = Version(batchable / "sums", asked(pad_variable_length_inputs=True))
    assert [answer["y"].tolist() for answer in version.ask_all(requests)] == [[4], [12]]
    assert version.rows() == [2]
    version = Version(batchable / "sums", asked())
    assert [answer["y"].tolist() for answer in version.ask_all(requests)] == [[3], [12]]


def test_a_batch_waits_for_more(batchable: Path) -> None:
    """With batch_timeout_micros a batch starts when it is full or its time is up."""
    version = Version(batchable / "half", asked(max_batch_size=2, batch_timeout_micros=60_000_000))

    async def fill() -> None:
        first = asyncio.ensure_future(version.ask(x=floats([1])))
        await asyncio.sleep(0.05)
        assert not version.servable.given
        await asyncio.gather(first, version.ask(x=floats([2])))

    asyncio.run(fill())
    version.servable.batching = Recording(batchable / "half", asked(batch_timeout_micros=1000)).batching
    version.ask_all([{"x": floats([3])}])
    assert version.rows() == [2, 1]


def test_a_full_queue(batchable: Path) -> None:
    """Once max_enqueued_batches wait, the next request is refused at once."""
    version = Version(batchable / "slow", asked(num_batch_threads=1, max_batch_size=1, max_enqueued_batches=1))

    async def ask() -> None:
        slow = asyncio.ensure_future(version.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=0.5))
        while not version.servable.given:
            await asyncio.sleep(0)
        waiting = asyncio.ensure_future(version.ask(n=ints([1]), x=floats([1])))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as caught:
            await version.ask(n=ints([1]), x=floats([2]))
        assert caught.value.message == (
            "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
            "max_enqueued_batches is 1"
        )
        with pytest.raises(DeadlineExceeded):
            await slow
        assert (await waiting)["y"].tolist() == [1]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("model", "inputs", "error"),
    [
        (
            "half",
            {"x": np.float32(1)},
            InvalidArgument("Batching Run() input tensors must have at least one dimension"),
        ),
        (
            "two_inputs",
            {"a": np.ones((1, 3), np.float32), "b": np.ones((2, 3), np.float32), "outputs": ("sum",)},
            InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size"),
        ),
        (
            "half",
            {"x": np.zeros(9, np.float32)},
            InvalidArgument("Task size 9 is larger than maximum input batch size 8"),
        ),
        (
            "mean",
            {"x": floats([1]), "outputs": ("y", "mean")},
            FailedPrecondition("Batched output tensor has 0 dimensions"),
        ),
        (
            "first",
            {"x": floats([1, 2])},
            FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            ),
        ),
    ],
)
def test_what_no_batch_can_hold(batchable: Path, model: str, inputs: dict[str, Any], error: ApiError) -> None:
    """Asked for batches, the server refuses in TensorFlow Serving's words; otherwise the request runs alone."""
    answer = Version(batchable / model, asked(max_batch_size=8)).ask_all([inputs])[0]
    assert (type(answer), str(answer)) == (type(error), str(error))
    answers = Version(batchable / model, JOINED).ask_all([inputs, inputs])
    alone = Version(batchable / model, ALONE).ask_all([inputs])[0]
    for each in answers:
        assert type(each) is type(alone)
        if isinstance(alone, dict):
            assert {key: array.tolist() for key, array in each.items()} == {
                key: array.tolist() for key, array in alone.items()
            }


def test_large_requests_are_split(batchable: Path) -> None:
    """With enable_large_batch_splitting a request of more rows than run at once takes several runs."""
    version = Version(
        batchable / "half", asked(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    )
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(version.ask_all([{"x": x}])[0]["y"], x / 2 + 2)
    assert sorted(version.rows()) == [2, 4, 4]


def test_parameters_of_one_version(batchable: Path, tmp_path: Path) -> None:
    """batching_params.pbtxt counts where that is asked for; a bad one fails the load; without one it is as unasked."""
    folder = shutil.copytree(batchable / "half", tmp_path / "1")
    settings = BatchingSettings(enabled=True, per_model=True, parameters=BatchingParameters(num_batch_threads=3))
    rules = Recording(folder, settings).batching
    assert rules is not None
    assert not rules.is_asked_for
    path = folder / "batching_params.pbtxt"
    path.write_text("max_batch_size { value: 4 } num_batch_threads { value: 9 }")
    rules = Recording(folder, settings).batching
    assert rules is not None
    assert (rules.is_asked_for, rules.max_rows, rules.parameters.num_batch_threads) == (True, 4, 3)
    path.write_text("max_batch_size { value: 4 } allowed_batch_sizes: 2")
    with pytest.raises(InvalidArgument, match="last entry was 2; expected 4"):
        Recording(folder, settings)
    (folder / "metadata.json").unlink()
    path.unlink()
    assert Recording(folder, settings).batching is None


def test_flags(tmp_path: Path) -> None:
    """The three flags are read at start, and so is the file."""
    path = tmp_path / "batching.config"
    path.write_text("max_batch_size { value: 16 }")
    given = [f"--batching_parameters_file={path}", "--enable_per_model_batching_parameters", str(tmp_path)]
    assert settings_from_flags(parse([str(tmp_path)])).loading.batching == JOINED
    assert settings_from_flags(parse(["--enable_batching=false", str(tmp_path)])).loading.batching == ALONE
    batching = settings_from_flags(parse(["--enable_batching", *given])).loading.batching
    assert (batching.enabled, batching.per_model) == (True, True)
    assert batching.parameters is not None
    assert batching.parameters.max_batch_size == 16
    with pytest.raises(InvalidArgument, match="is set without setting"):
        settings_from_flags(parse(given))
    path.write_text("max_batch_size: many")
    with pytest.raises(InvalidArgument, match="Invalid protobuf file"):
        settings_from_flags(parse(["--enable_batching", *given]))

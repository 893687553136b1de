"""predict_batches: any number of rows, once each and in order, whatever the server does meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.client.faces import opened
from tests.nursery import NURSERY, ForkedProcess
from tests.servers import RunningServer, running_server, start_server
from tfbundle_client import (
    AsyncClient,
    Client,
    ConnectionFailed,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Retry,
    SignatureMismatch,
)
from tfbundle_client.batches.cutting import Batch
from tfbundle_client.batches.flow import BatchPrediction, Stream, StreamSettings
from tfbundle_client.batches.run import run_async, run_blocking
from tfbundle_client.calls.flows import Flow, Pause
from tfbundle_client.calls.prediction import Prediction
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ApiError, BundleError, Unavailable
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature, TensorSpec

_X = np.arange(1000, dtype=np.float32)
_Y = _X / 2 + 2


def _joined(predictions: Any, name: str = "y") -> NDArray[Any]:
    """Join the answers, each checked to begin where the one before ended."""
    parts, next_row = [], 0
    for each in predictions:
        assert (each.first_row, each.rows) == (next_row, len(each[name]))
        next_row += each.rows
        parts.append(each[name])
    return np.concatenate(parts)


@pytest.mark.parametrize("batch_size", [1, 7, 999, 1000, 5000])
def test_an_array(client: Client, batch_size: int) -> None:
    """Any batch size gives every row's answer, in order."""
    data = _X[: 100 if batch_size == 1 else None]
    got = _joined(client.predict_batches("half_plus_two", data, batch_size=batch_size, in_flight=3))
    np.testing.assert_array_equal(got, data / 2 + 2)


def test_named_arrays(client: Client) -> None:
    """Inputs are cut alike; outputs and signature are chosen as in predict."""
    a, b = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    got = list(client.predict_batches("two_inputs", {"a": a, "b": b}, batch_size=20, outputs="sum"))
    assert [(each.first_row, each.rows, list(each), each.version) for each in got] == [
        (0, 20, ["sum"], 1),
        (20, 20, ["sum"], 1),
        (40, 10, ["sum"], 1),
    ]
    np.testing.assert_allclose(_joined(got, "sum"), a + b, rtol=1e-6)


def test_a_memory_map(client: Client, tmp_path: Path) -> None:
    """A memory-mapped file is read as it is sent."""
    np.save(tmp_path / "x.npy", _X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(_joined(client.predict_batches("half_plus_two", mapped, batch_size=300)), _Y)


def test_rows_and_batches_of_an_iterable(client: Client) -> None:
    """Rows are joined, batches are sent as they are and cut where they are too large; both may be mixed."""

    def elements() -> Iterator[Any]:
        yield from (1.0, np.float32(2), np.array([3, 4], np.float32), [5.0])
        yield {"x": 6.0}
        yield {"x": np.arange(7, 14, dtype=np.float32)}

    got = list(client.predict_batches("half_plus_two", elements(), batch_size=3, in_flight=2))
    assert [each.rows for each in got] == [2, 2, 1, 1, 3, 3, 1]
    np.testing.assert_array_equal(_joined(got), np.arange(1, 14) / 2 + 2)


def test_rows_of_strings_and_vectors(client: Client) -> None:
    """A text is a row of a string input; a list of lists is a list of rows."""
    assert (
        _joined(client.predict_batches("strings", ["ab", b"c"] * 5, batch_size=4), "upper").tolist()
        == [b"AB", b"C"] * 5
    )
    rows = [{"a": [1.0, 2.0, 3.0], "b": [i, i, i]} for i in range(5)]
    assert _joined(client.predict_batches("two_inputs", rows, batch_size=2), "sum")[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_a_data_frame(client: Client) -> None:
    """A DataFrame is cut by its rows."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": _X})
    np.testing.assert_array_equal(_joined(client.predict_batches("half_plus_two", frame, batch_size=400)), _Y)


def test_no_rows(client: Client) -> None:
    """Nothing asked, nothing answered."""
    assert list(client.predict_batches("half_plus_two", [])) == []
    assert list(client.predict_batches("half_plus_two", _X[:0])) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text", "got a text"),
        ([[[1.0]]], "element 0 is neither a row nor a batch: the input is x: float32"),
        ([{"z": 1.0}], "element 0: there is no input 'z'"),
        ({"x": 1.0}, "input 'x' has no rows"),
        ({"x": _X, "z": _X[:3]}, "one number of rows (x: 1000, z: 3)"),
        ([1.0, {"x": 2.0}], "rows 0 to 1 do not all have the inputs"),
        (np.ones((3, 2), np.float32), "rows 0 to 2 (0 before them answered): half_plus_two version 123"),
    ],
)
def test_what_is_no_data(client: Client, data: Any, message: str) -> None:
    """The error says what does not fit, and where."""
    with pytest.raises(InvalidArgument) as raised:
        list(client.predict_batches("half_plus_two", data))
    assert message in str(raised.value)


def test_settings_are_checked_at_once(client: Client) -> None:
    """A size that makes no sense is refused by the call, before anything is iterated."""
    for wrong in ({"batch_size": 0}, {"in_flight": 0}, {"first_row": -1}, {"timeout": 0.0}, {"batch_size": 1.5}):
        with pytest.raises(InvalidArgument):
            client.predict_batches("half_plus_two", _X, **wrong)


def test_an_error_names_its_rows(client: Client) -> None:
    """What was answered before a batch that fails is given; the error names the rows and counts those before."""
    data = [_X[:10], _X[10:20], np.ones(3, np.complex64), _X[20:30]]
    answers = client.predict_batches("half_plus_two", data, first_row=100)
    assert [next(answers).first_row, next(answers).first_row] == [100, 110]
    with pytest.raises(SignatureMismatch, match=r"rows 120 to 122 \(20 before them answered\): .*wants float32"):
        next(answers)


def test_rows_that_end_in_an_error(client: Client) -> None:
    """When the caller's own rows fail, those before are answered first."""

    def rows() -> Iterator[NDArray[Any]]:
        yield _X[:5]
        raise OSError("the disk is gone")

    answers = client.predict_batches("half_plus_two", rows())
    assert next(answers).rows == 5
    with pytest.raises(OSError, match="the disk is gone"):
        next(answers)


def test_only_what_is_in_flight_is_alive(client: Client) -> None:
    """Rows are taken as the answers are, and no further than the batches in flight and one that waits."""
    taken = []

    def rows() -> Iterator[NDArray[Any]]:
        for place in range(100):
            taken.append(place)
            yield _X[:2]

    answers = client.predict_batches("half_plus_two", rows(), in_flight=3)
    assert taken == []
    for given in range(1, 20):
        next(answers)
        assert len(taken) == given + 3
    answers.close()
    assert len(taken) == 22
    assert client.predict("half_plus_two", [1.0])["y"] == [2.5]


def test_an_asynchronous_iterable(server: RunningServer) -> None:
    """An AsyncClient takes rows from an asynchronous iterable, too, and stops when its reader does."""

    async def rows() -> AsyncIterator[float]:
        for value in _X:
            await asyncio.sleep(0)
            yield float(value)

    async def score() -> tuple[NDArray[Any], int]:
        async with AsyncClient(server.grpc_url) as client:
            found = [each async for each in client.predict_batches("half_plus_two", rows(), batch_size=64)]
            answers = client.predict_batches("half_plus_two", rows(), batch_size=64)
            await anext(answers)
            await answers.aclose()
            return _joined(found), len(asyncio.all_tasks())

    got, tasks = asyncio.run(score())
    np.testing.assert_array_equal(got, _Y)
    assert tasks == 1


def test_a_server_that_restarts_in_mid_stream(tiny_models: Path, tmp_path: Path) -> None:
    """Streams of either client wait until the server is back: every row once, in order."""
    arguments = ["--model_name=half_plus_two", f"--model_base_path={tiny_models / 'half_plus_two'}"]
    first = start_server(*arguments, folder=tmp_path)
    ports = [f"--port={first.grpc_port}", f"--rest_api_port={first.rest_port}"]
    second: ForkedProcess | None = None
    x = np.arange(20_000, dtype=np.float32)
    got: list[tuple[BatchPrediction, ...]] = []
    try:
        with opened("sync", first.grpc_url) as client, opened("async", first.rest_url) as other:
            streams = [each.predict_batches("half_plus_two", x, batch_size=500) for each in (client, other)]
            for pair in zip(*streams, strict=True):
                got.append(pair)
                if len(got) == 10:
                    first.process.kill()
                    first.process.wait()
                    second = NURSERY.start(["serve", *arguments, *ports], tmp_path / "second.log", {})
    finally:
        first.process.kill()
        first.process.wait()
        if second is not None:
            second.kill()
            second.wait()
    for answers in zip(*got, strict=True):
        np.testing.assert_array_equal(_joined(answers), x / 2 + 2)
        assert {each.version for each in answers} == {123}


def _stream(answers: Any, *, retry: Retry | None = None, timeout_s: float | None = 5.0, **settings: Any) -> Stream:
    """A stream whose predict calls are answered by a function of the inputs; an error is raised."""

    def ask(inputs: Any, spec: ModelSpec, timeout_s: float | None) -> Flow[Prediction]:
        del spec, timeout_s
        yield from ()
        found = answers(inputs)
        if isinstance(found, BundleError):
            raise found
        return Prediction(model="m", version=1, signature="s", outputs={"y": found}, latency_s=0.0)

    signature = Signature({"x": TensorSpec(dtypes.FLOAT, (None,))}, {"y": TensorSpec(dtypes.FLOAT, (None,))})
    stream_settings = StreamSettings(**{"batch_size": 10, "in_flight": 2, "timeout_s": timeout_s, **settings})
    return Stream(_X[:40], stream_settings, ModelSpec("m", 1), signature, ask, retry or Retry())


def _pauses(flow: Flow[BatchPrediction]) -> tuple[list[float], BatchPrediction]:
    pauses = []
    try:
        step = next(flow)
        while True:
            assert isinstance(step, Pause)
            pauses.append(step.seconds)
            step = flow.send(None)
    except StopIteration as end:
        return pauses, end.value


def test_patience_grows_and_meets_a_server_that_is_not_ready() -> None:
    """Waits grow up to a second; a server that is just back and has no models yet is waited for, too."""
    answers = iter([*[ConnectionFailed("gone")] * 8, NotFound("not yet"), _Y[:10]])
    pauses, found = _pauses(_stream(lambda _: next(answers), timeout_s=None).answer(Batch(0, 10, _X[:10])))
    assert pauses == pytest.approx([0.1 * 1.5**n for n in range(6)] + [1.0] * 3)
    assert (found.first_row, found.rows) == (0, 10)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NotFound("no version 1"), "the version that it began with"),
        (ResourceExhausted("too large"), "a smaller batch_size may fit"),
        (InvalidArgument("nonsense"), "nonsense"),
    ],
)
def test_what_cannot_succeed_stands(error: ApiError, hint: str) -> None:
    """A version that went away, a message too large and a wrong input are not waited for."""
    with pytest.raises(type(error), match=hint):
        next(_stream(lambda _: error).answer(Batch(20, 10, _X[:10])))


def test_patience_ends() -> None:
    """The time of a batch, a client that never retries, and a closed stream each end the waiting."""
    gone = Unavailable("gone")
    with pytest.raises(Unavailable, match=r"rows 20 to 29 \(20 before them answered\): gone"):
        next(_stream(lambda _: gone, timeout_s=0.01).answer(Batch(20, 10, _X[:10])))
    stream = _stream(lambda _: Unavailable("gone"))
    flow = stream.answer(Batch(0, 10, _X[:10]))
    next(flow)
    stream.close()
    with pytest.raises(Unavailable):
        flow.send(None)


def test_a_batch_that_is_larger_than_the_servers() -> None:
    """It is sent in pieces of the size that the server names, and so are those after it."""
    sizes = []

    def answer(inputs: Any) -> Any:
        sizes.append(len(inputs))
        if len(inputs) > 4:
            return InvalidArgument(f"Task size {len(inputs)} is larger than maximum input batch size 4")
        return inputs / 2 + 2

    stream = _stream(answer)
    for first_row in (0, 10):
        _, found = _pauses(stream.answer(Batch(first_row, 10, _X[first_row : first_row + 10])))
        np.testing.assert_array_equal(found["y"], _Y[first_row : first_row + 10])
        assert (found.first_row, found.rows) == (first_row, 10)
    assert sizes == [10, 4, 4, 2, 4, 4, 2]


def test_order_does_not_depend_on_which_answer_is_first() -> None:
    """A slow first batch holds the others back; threads and tasks alike."""
    stream, released = _stream(lambda inputs: inputs), threading.Event()

    def answer(batch: Batch) -> BatchPrediction:
        assert batch.first_row or released.wait(30)
        if batch.first_row == 10:
            released.set()
        return _pauses(stream.answer(batch))[1]

    async def answer_async(batch: Batch) -> BatchPrediction:
        for _ in range(3 if batch.first_row == 0 else 0):
            await asyncio.sleep(0)
        return _pauses(stream.answer(batch))[1]

    async def collect() -> list[BatchPrediction]:
        return [each async for each in run_async(stream, answer_async)]

    for found in (list(run_blocking(stream, answer)), asyncio.run(collect())):
        assert [each.first_row for each in found] == [0, 10, 20, 30]


def test_all_rows_go_to_one_version(tiny_models: Path, tmp_path: Path) -> None:
    """A version that comes in mid-stream answers none of its rows, unless that is asked for."""
    base = tmp_path / "models" / "half_plus_two"
    shutil.copytree(tiny_models / "half_plus_two" / "123", base / "1")
    with (
        running_server(str(base.parent), "--file_system_poll_wait_seconds=1", folder=tmp_path) as running,
        Client(running.grpc_url) as client,
    ):
        streams = {
            pinned: client.predict_batches("half_plus_two", _X, batch_size=100, in_flight=1, pin_version=pinned)
            for pinned in (True, False)
        }
        versions = {pinned: [next(stream).version] for pinned, stream in streams.items()}
        shutil.copytree(tiny_models / "half_plus_two" / "123", tmp_path / "new")
        (tmp_path / "new").rename(base / "2")
        client.wait_until_available("half_plus_two", version=2, timeout=60)
        versions[False] += [each.version for each in streams[False]]
        assert versions[False][-1] == 2
        try:
            versions[True] += [each.version for each in streams[True]]
        except NotFound as error:
            assert "the version that it began with" in str(error)  # noqa: PT017 - either is right, by when 1 is unloaded
        assert set(versions[True]) == {1}

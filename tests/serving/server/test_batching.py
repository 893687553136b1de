"""Requests that run together: who meets whom, what each gets back, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tests.models import save_two_inputs
from tests.servers import running_server
from tfbundle_client import Client
from tfbundle_serving.apis.errors import (
    ApiError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from tfbundle_serving.apis.predict import Arrays
from tfbundle_serving.config.batching import BatchingParameters, BatchingSettings
from tfbundle_serving.server.batching_run import Run
from tfbundle_serving.server.flags import parse
from tfbundle_serving.server.live_version import LiveVersion
from tfbundle_serving.server.runner import Runner
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.settings import LoadSettings, settings_from_flags

JOINED = BatchingSettings()
ALONE = BatchingSettings(enabled=False)
#: More turns of a loop than any test waits for.
FOREVER = 2_000_000_000


def floats(values: Any) -> NDArray[np.float32]:
    """Make an array of float32."""
    return np.array(values, np.float32)


def ints(values: Any) -> NDArray[np.int32]:
    """Make an array of int32."""
    return np.array(values, np.int32)


def asked(**parameters: Any) -> BatchingSettings:
    """Batching as --enable_batching and a parameters file ask for it."""
    return BatchingSettings(enabled=True, parameters=BatchingParameters(**parameters))


class Recording(Servable):
    """A servable that keeps what it was given."""

    def __init__(self, folder: Path, batching: BatchingSettings) -> None:
        super().__init__(folder, LoadSettings(batching=batching))
        self.given: list[Arrays] = []

    def run(
        self, signature_name: str, inputs: Arrays, outputs: tuple[str, ...], timeout_s: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Keep the inputs and run them."""
        self.given.append(inputs)
        return super().run(signature_name, inputs, outputs, timeout_s)


class Version:
    """A loaded version and a runner for it."""

    def __init__(self, folder: Path, batching: BatchingSettings) -> None:
        self.servable = Recording(folder, batching)
        self.live = LiveVersion("model", 1, self.servable)
        self.runner = Runner(8)

    def ask(
        self, *, outputs: tuple[str, ...] = ("y",), signature: str = "", timeout_s: float | None = 60.0, **inputs: Any
    ) -> Awaitable[dict[str, NDArray[Any]]]:
        """Ask the runner for a run."""
        arrays = {alias: np.asarray(value) for alias, value in inputs.items()}
        return self.runner.run(self.live, Run(signature or "serving_default", arrays, outputs), timeout_s)

    def ask_all(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Ask for several runs at the same moment; answers or errors in the same order."""

        async def ask() -> list[Any]:
            return list(await asyncio.gather(*(self.ask(**each) for each in requests), return_exceptions=True))

        return asyncio.run(ask())

    def rows(self) -> list[int]:
        """Rows of each run until now."""
        return [len(next(iter(inputs.values()))) for inputs in self.servable.given]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version folders of models whose rows are independent, each declared batchable."""
    root = tmp_path_factory.mktemp("batchable")

    def save(name: str, function: Callable[..., Any], *specs: Any) -> None:
        module = tf.Module()
        module.f = tf.function(function, input_signature=specs, autograph=False)
        tf.saved_model.save(module, str(root / name), signatures={"serving_default": module.f})

    def count_up(n: Any, x: Any) -> Any:
        most = tf.reduce_max(n)
        end = tf.while_loop(lambda i: i < most, lambda i: (i + 1,), (tf.constant(0),), parallel_iterations=1)[0]
        return {"y": x + 0 * tf.cast(end, tf.float32)}

    row = tf.TensorSpec([None], tf.float32, name="x")
    save("half", lambda x: {"y": x / 2 + 2}, row)
    save("numbers", lambda text: {"y": tf.strings.to_number(text)}, tf.TensorSpec([None], tf.string, name="text"))
    save("sums", lambda x: {"y": tf.reduce_sum(x, 1)}, tf.TensorSpec([None, None], tf.float32, name="x"))
    save("mean", lambda x: {"y": x, "mean": tf.reduce_mean(x)}, row)
    save("first", lambda x: {"y": x[:1]}, row)
    save("slow", count_up, tf.TensorSpec([None], tf.int32, name="n"), row)
    save_two_inputs(root / "two_inputs")
    for folder in root.iterdir():
        (folder / "metadata.json").write_text(json.dumps({"batchable": True}))
    return root


def test_requests_of_one_moment_run_together(folders: Path) -> None:
    """Where metadata.json says batchable, each gets its own rows of one run."""
    version = Version(folders / "half", JOINED)
    requests = [{"x": np.arange(count, dtype=np.float32) + 10 * count} for count in (1, 2, 1, 3)]
    for request, answer in zip(requests, version.ask_all(requests), strict=True):
        np.testing.assert_array_equal(answer["y"], request["x"] / 2 + 2)
    assert version.rows() == [7]


@pytest.mark.parametrize(("metadata", "batching"), [('{"batchable": true}', ALONE), ("{}", JOINED), ("[", JOINED)])
def test_requests_run_alone_otherwise(folders: Path, tmp_path: Path, metadata: str, batching: BatchingSettings) -> None:
    """--enable_batching=false wins, and so does a metadata.json that does not say batchable."""
    folder = shutil.copytree(folders / "half", tmp_path / "1")
    (folder / "metadata.json").write_text(metadata)
    version = Version(folder, batching)
    assert [float(each["y"][0]) for each in version.ask_all([{"x": [np.float32(i)]} for i in range(3)])] == [2, 2.5, 3]
    assert version.rows() == [1, 1, 1]


def test_only_the_same_is_joined(folders: Path) -> None:
    """Other outputs, signatures and row shapes run apart, each right."""
    version = Version(folders / "two_inputs", JOINED)
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


def test_what_gathers_during_a_run_goes_together(folders: Path) -> None:
    """While one run is under way the next requests gather, and start as soon as it ends."""
    version = Version(folders / "slow", JOINED)

    async def ask() -> None:
        first = asyncio.ensure_future(version.ask(n=ints([1000]), x=floats([0])))
        while not version.servable.given:
            await asyncio.sleep(0)
        answers = await asyncio.gather(*(version.ask(n=ints([1]), x=floats([i])) for i in range(5)))
        assert [answer["y"].tolist() for answer in answers] == [[i] for i in range(5)]
        await first

    asyncio.run(ask())
    assert version.rows() == [1, 5]


def test_a_slow_run_does_not_hold_up_the_others(folders: Path) -> None:
    """Requests that came during a run that takes very long start after a moment of patience."""
    version = Version(folders / "slow", JOINED)

    async def ask() -> None:
        slow = asyncio.ensure_future(version.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=1.5))
        while not version.servable.given:
            await asyncio.sleep(0)
        answer = await version.ask(n=ints([1]), x=floats([7]), timeout_s=2.0)
        assert answer["y"].tolist() == [7]
        assert not slow.done()
        with pytest.raises(DeadlineExceeded):
            await slow

    asyncio.run(ask())


def test_a_slow_model_leaves_threads_to_others(folders: Path) -> None:
    """However many requests of a slow model wait, those of another model run."""
    slow, other = Version(folders / "slow", JOINED), Version(folders / "half", JOINED)
    slow.runner = other.runner = Runner(2)

    async def ask() -> None:
        waiting = []
        for _ in range(3):
            waiting.append(asyncio.ensure_future(slow.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=1.5)))
            await asyncio.sleep(0.1)
        assert (await other.ask(x=floats([2]), timeout_s=1.0))["y"].tolist() == [3]
        assert len(slow.servable.given) == 1
        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [DeadlineExceeded] * 3

    asyncio.run(ask())


def test_only_the_bad_request_fails(folders: Path) -> None:
    """What the graph refuses in one request is run request by request."""
    version = Version(folders / "numbers", JOINED)
    texts = [b"1", b"2", b"three", b"4"]
    answers = version.ask_all([{"text": np.array([text], object)} for text in texts])
    assert [each["y"].tolist() for each in answers if isinstance(each, dict)] == [[1], [2], [4]]
    assert isinstance(answers[2], InvalidArgument)
    assert version.rows() == [4, 1, 1, 1, 1]


def test_each_keeps_its_deadline(folders: Path) -> None:
    """In one batch the impatient get DEADLINE_EXCEEDED in time, and the patient one waits on."""
    version = Version(folders / "slow", JOINED)
    n = ints([400_000])

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        patient = asyncio.ensure_future(version.ask(n=n, x=floats([1])))
        for timeout_s in (0.05, 0.1, -1.0):
            with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
                await version.ask(n=n, x=floats([2]), timeout_s=timeout_s)
        assert loop.time() - begun < 1.0
        assert (await patient)["y"].tolist() == [1]

    asyncio.run(ask())


def test_who_gave_up_while_waiting_is_left_out(folders: Path) -> None:
    """A request that expired or whose caller vanished before its batch began is not run; the queue says why."""
    version = Version(folders / "slow", asked(num_batch_threads=1))
    n = ints([1])

    async def ask() -> None:
        slow = asyncio.ensure_future(version.ask(n=ints([FOREVER]), x=floats([0]), timeout_s=0.5))
        while not version.servable.given:
            await asyncio.sleep(0)
        vanished = asyncio.ensure_future(version.ask(n=n, x=floats([1])))
        waiting = asyncio.ensure_future(version.ask(n=n, x=floats([2])))
        with pytest.raises(ResourceExhausted) as caught:
            await version.ask(n=n, x=floats([3]), timeout_s=0.05)
        assert caught.value.message == "Run() timeout exceeded while waiting in batching queue"
        vanished.cancel()
        with pytest.raises(DeadlineExceeded):
            await slow
        assert (await waiting)["y"].tolist() == [2]

    asyncio.run(ask())
    assert version.rows() == [1, 1]


def test_a_version_is_held_until_its_last_batch_has_run(folders: Path) -> None:
    """Callers that gave up do not let a version go that still computes."""
    version = Version(folders / "slow", JOINED)
    assert version.live.hold()

    async def ask() -> None:
        with pytest.raises(DeadlineExceeded):
            await version.ask(n=ints([400_000]), x=floats([1]), timeout_s=0.01)
        others = [asyncio.ensure_future(version.ask(n=ints([1]), x=floats([i]))) for i in range(3)]
        await asyncio.sleep(0)
        version.live.retire()
        version.live.release()
        assert not version.live.wait_drained(0.0)
        await asyncio.gather(*others)

    asyncio.run(ask())
    assert version.live.wait_drained(60.0)
    version.servable.close()


def test_batches_have_limits(folders: Path) -> None:
    """Many rows are several batches; a request larger than a batch runs alone where nobody asked for batches."""
    version = Version(folders / "half", JOINED)
    version.ask_all([{"x": np.zeros(200, np.float32)} for _ in range(4)] + [{"x": np.zeros(5000, np.float32)}])
    assert sorted(version.rows()) == [400, 400, 5000]
    version = Version(folders / "sums", JOINED)
    version.ask_all([{"x": np.zeros((1, 1 << 16), np.float32)} for _ in range(48)])
    version.ask_all([{"x": np.zeros((1, 1 << 17), np.float32)} for _ in range(2)])
    assert version.rows() == [32, 16, 1, 1]


def test_allowed_batch_sizes(folders: Path) -> None:
    """Batches are rounded up by the first row of the last request; nobody sees those rows."""
    version = Version(folders / "half", asked(max_batch_size=8, allowed_batch_sizes=(4, 8)))
    answers = version.ask_all([{"x": floats([1, 2])}, {"x": floats([5, 6, 7])}])
    assert [answer["y"].tolist() for answer in answers] == [[2.5, 3], [4.5, 5, 5.5]]
    assert [given["x"].tolist() for given in version.servable.given] == [[1, 2, 5, 6, 7, 5, 5, 5]]


def test_rows_of_different_lengths(folders: Path) -> None:
    """They are padded with the first element of each request, where the parameters say so, else they run apart."""
    requests = [{"x": floats([[1, 2]])}, {"x": floats([[3, 4, 5]])}]
    version = Version(folders / "sums", asked(pad_variable_length_inputs=True))
    assert [answer["y"].tolist() for answer in version.ask_all(requests)] == [[4], [12]]
    assert version.rows() == [2]
    version = Version(folders / "sums", asked())
    assert [answer["y"].tolist() for answer in version.ask_all(requests)] == [[3], [12]]


def test_a_batch_waits_for_more(folders: Path) -> None:
    """With batch_timeout_micros a batch starts when it is full or its time is up."""
    version = Version(folders / "half", asked(max_batch_size=2, batch_timeout_micros=60_000_000))

    async def fill() -> None:
        first = asyncio.ensure_future(version.ask(x=floats([1])))
        await asyncio.sleep(0.05)
        assert not version.servable.given
        await asyncio.gather(first, version.ask(x=floats([2])))

    asyncio.run(fill())
    version.servable.batching = Recording(folders / "half", asked(batch_timeout_micros=1000)).batching
    version.ask_all([{"x": floats([3])}])
    assert version.rows() == [2, 1]


def test_a_full_queue(folders: Path) -> None:
    """Once max_enqueued_batches wait, the next request is refused at once."""
    version = Version(folders / "slow", asked(num_batch_threads=1, max_batch_size=1, max_enqueued_batches=1))

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
def test_what_no_batch_can_hold(folders: Path, model: str, inputs: dict[str, Any], error: ApiError) -> None:
    """Asked for batches, the server refuses in TensorFlow Serving's words; otherwise the request runs alone."""
    answer = Version(folders / model, asked(max_batch_size=8)).ask_all([inputs])[0]
    assert (type(answer), str(answer)) == (type(error), str(error))
    answers = Version(folders / model, JOINED).ask_all([inputs, inputs])
    alone = Version(folders / model, ALONE).ask_all([inputs])[0]
    for each in answers:
        assert type(each) is type(alone)
        if isinstance(alone, dict):
            assert {key: array.tolist() for key, array in each.items()} == {
                key: array.tolist() for key, array in alone.items()
            }


def test_large_requests_are_split(folders: Path) -> None:
    """With enable_large_batch_splitting a request of more rows than run at once takes several runs."""
    version = Version(
        folders / "half", asked(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    )
    x = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(version.ask_all([{"x": x}])[0]["y"], x / 2 + 2)
    assert sorted(version.rows()) == [2, 4, 4]


def test_parameters_of_one_version(folders: Path, tmp_path: Path) -> None:
    """batching_params.pbtxt counts where that is asked for; a bad one fails the load; without one it is as unasked."""
    folder = shutil.copytree(folders / "half", tmp_path / "1")
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


def test_over_the_wire(folders: Path, tmp_path: Path) -> None:
    """Forty clients at once over both protocols get the rows that they asked for, with padding and all."""
    shutil.copytree(folders / "half", tmp_path / "models" / "half" / "1")
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

"""Client("local:..."): the same class and the same answers without a server."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import DTYPES, save_half_plus
from tests.servers import RunningServer
from tfbundle_client import Client
from tfbundle_client.async_client import AsyncClient
from tfbundle_serving.apis.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SignatureMismatch,
    Unimplemented,
)

_X = np.linspace(-4, 4, 23, dtype=np.float32)


@pytest.fixture(scope="module")
def local(tiny_models: Path) -> Iterator[Client]:
    """All tiny models, run in this process."""
    with Client(f"local:{tiny_models}") as client:
        yield client


def test_a_models_folder_a_base_path_and_a_version_folder(tiny_models: Path) -> None:
    """Each kind of folder serves the model under the name that a server would give it."""
    for path in (tiny_models, tiny_models / "half_plus_two", tiny_models / "half_plus_two" / "123"):
        with Client(f"local:{path}") as client:
            answer = client.predict("half_plus_two", _X)
            assert (answer.version, client.transport, client.url) == (123, "local", f"local:{path}")
            assert [each.version for each in client.status("half_plus_two")] == [123]
            assert client.metadata("half_plus_two").version == 123
            assert client.wait_until_available("half_plus_two", timeout=5).is_available
            assert client.health()


def test_answers_are_those_of_the_server_bit_for_bit(local: Client, server: RunningServer) -> None:
    """The same inputs give the same bytes here and over the wire, for every dtype and for several outputs."""
    random = np.random.default_rng(3)
    rows = random.standard_normal((13, 3)).astype(np.float32)
    calls: list[tuple[str, Any, str]] = [
        ("half_plus_two", _X, ""),
        ("two_inputs", {"a": rows, "b": rows[::-1]}, ""),
        ("two_inputs", {"a": rows, "b": rows}, "only_sum"),
        ("strings", np.array([b"ab\0c", b"", "\u00e4".encode()], object), ""),
    ]
    for name in DTYPES:
        words = np.array([[b"a", b"\xff"]], object)
        array = words if name == "string" else random.integers(0, 2, (4, 2)).astype(_numpy(name))
        calls.append(("identities", array, name))
    with Client(server.grpc_url) as served:
        for model, inputs, signature in calls:
            here = local.predict(model, inputs, signature=signature)
            there = served.predict(model, inputs, signature=signature)
            assert (here.version, here.signature, set(here)) == (there.version, there.signature, set(there))
            for output in here:
                assert here[output].dtype == there[output].dtype
                assert here[output].tolist() == there[output].tolist()
                if here[output].dtype != object:
                    assert here[output].tobytes() == there[output].tobytes()
        assert local.metadata("two_inputs") == served.metadata("two_inputs")


def _numpy(name: str) -> Any:
    from tfbundle_serving.apis import dtypes

    return next(each for each in dtypes.BY_NUMBER.values() if each.numpy_name == name).to_numpy()


def test_versions_come_and_go(tmp_path: Path) -> None:
    """The highest version answers unless another is asked for; new, replaced and removed ones are noticed."""
    base = tmp_path / "m"
    save_half_plus(base / "1", 1.0)
    with Client(f"local:{base}") as client:
        assert client.predict("m", [0.0])["y"].tolist() == [1.0]
        save_half_plus(base / "2", 2.0)
        assert client.predict("m", [0.0])["y"].tolist() == [2.0]
        assert client.predict("m", [0.0], version=1)["y"].tolist() == [1.0]
        assert [each.version for each in client.status("m")] == [2, 1]
        shutil.rmtree(base / "2")
        answer = client.predict("m", [0.0])
        assert (answer.version, answer["y"].tolist()) == (1, [1.0])
        shutil.rmtree(base / "1")
        save_half_plus(base / "1", 5.0)
        assert client.predict("m", [0.0])["y"].tolist() == [5.0]


def test_errors_are_those_of_a_server(local: Client, tmp_path: Path) -> None:
    """What is not there is refused with the same classes, and the message says what there is."""
    with pytest.raises(NotFound, match=r"Latest\(nope\); local:.* has .*half_plus_two version 123"):
        local.predict("nope", [1.0])
    with pytest.raises(NotFound, match=r"Specific\(half_plus_two, 9\)"):
        local.predict("half_plus_two", [1.0], version=9)
    with pytest.raises(NotFound, match="Could not find any versions of model nope"):
        local.status("nope")
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label: canary"):
        local.predict("half_plus_two", [1.0], label="canary")
    with pytest.raises(SignatureMismatch, match="has no signature 'x'"):
        local.predict("half_plus_two", [1.0], signature="x")
    with pytest.raises(Unimplemented, match="needs a server"):
        local.reload_config({})
    with Client(f"local:{tmp_path}") as empty, pytest.raises(NotFound, match=r"no models at .* expected a version"):
        empty.predict("m", [1.0])
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"\xff\xff")
    with Client(f"local:{tmp_path}") as broken:
        with pytest.raises(DataLoss, match="Can't parse"):
            broken.predict("m", [1.0])
        assert broken.status("m")[0].error_code == DataLoss.code
    with pytest.raises(InvalidArgument, match="is followed by the path"):
        Client("local:")


def test_a_deadline_holds(local: Client) -> None:
    """A run that would take minutes is given up when its time is over, and leaves the client usable."""
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer from local:.* within 0.3 s|interrupted"):
        local.predict("counter", np.array([2**31 - 1], np.int32), timeout=0.3)
    assert time.monotonic() - started < 3
    assert local.predict("counter", np.array([3], np.int32))["y"] == 3


def test_the_asynchronous_client_leaves_the_loop_free(tiny_models: Path) -> None:
    """While a model runs, the event loop goes on; a deadline holds there, too."""

    async def drive() -> tuple[int, Any]:
        ticks = 0
        async with AsyncClient(f"local:{tiny_models}") as client:
            run = asyncio.ensure_future(client.predict("counter", np.array([2**31 - 1], np.int32), timeout=0.5))
            while not run.done():
                await asyncio.sleep(0.01)
                ticks += 1
            with pytest.raises(DeadlineExceeded):
                run.result()
            return ticks, await client.predict("half_plus_two", _X)

    ticks, answer = asyncio.run(drive())
    assert ticks > 5
    assert np.array_equal(answer["y"], _X / 2 + 2)


def test_classify_and_regress(tmp_path: Path) -> None:
    """Examples are classified and regressed as a server does it, by the names of a signature's inputs and outputs."""
    _save_examples(tmp_path / "flowers" / "1")
    examples = [{"x": 0.5}, {"x": -2.0}]
    with Client(f"local:{tmp_path}") as client:
        classes = client.classify("flowers", examples, signature="classify")
        numbers = client.regress("flowers", examples, signature="regress")
        with pytest.raises(FailedPrecondition, match="No regression outputs found"):
            client.regress("flowers", examples, signature="wrong")
    assert classes.version == numbers.version == 1
    assert classes[:2] == [[("yes", 0.5), ("no", -0.5)], [("yes", -2.0), ("no", 2.0)]]
    assert numbers.values.tolist() == [1.0, -4.0]


def _save_examples(folder: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None], tf.string, name="inputs")

    def parse(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]

    def classify(inputs: Any) -> Any:
        x = parse(inputs)
        names = tf.tile(tf.constant([["yes", "no"]]), [tf.shape(x)[0], 1])
        return {"classes": names, "scores": tf.concat([x, -x], axis=1)}

    functions = {
        "classify": classify,
        "regress": lambda inputs: {"outputs": parse(inputs) * 2.0},
        "wrong": lambda inputs: {"other": parse(inputs)},
    }
    signatures = {}
    for name, function in functions.items():
        traced = tf.function(function, input_signature=[spec], autograph=False)
        setattr(module, name, traced)
        signatures[name] = traced
    tf.saved_model.save(module, str(folder), signatures=signatures)


def test_after_a_fork(tiny_models: Path) -> None:
    """A client that has run nothing yet is usable in a forked child, with threads of its own."""
    code = (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from tfbundle_client import Client\n"
        "client = Client(sys.argv[1])\n"
        "client.status('half_plus_two')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(7 if client.status('half_plus_two', timeout=20)[0].is_available else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, f"local:{tiny_models}"], check=False, capture_output=True)
    assert done.returncode == 7, done.stderr.decode()


def test_models_that_ran_before_a_fork(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow does not survive a fork: in a child of one that ran models it is refused at once, and never hangs."""
    with Client(f"local:{tiny_models}") as client:
        client.predict("half_plus_two", _X)
        ours = os.getpid()
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", lambda: ours + 1)
            with pytest.raises(FailedPrecondition, match="does not survive a fork"):
                client.predict("half_plus_two", _X)
            assert client.status("half_plus_two")
        assert client.predict("half_plus_two", _X).version == 123


def test_without_tensorflow_it_says_what_to_install(tiny_models: Path) -> None:
    """Status and signatures need no TensorFlow; a run without it ends in one line that names the extra."""
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "from tfbundle_client import Client\n"
        "client = Client(sys.argv[1])\n"
        "assert client.status('half_plus_two')[0].is_available\n"
        "try:\n"
        "    client.predict('half_plus_two', [1.0])\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"local:{tiny_models}"], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("\n") == 1
    assert "pip install 'tfbundle[export]'" in done.stdout

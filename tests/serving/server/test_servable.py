"""One loaded version: values, dtypes, error texts, time limits, memory."""

from __future__ import annotations

import gc
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models import DTYPES
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ApiError, DataLoss, DeadlineExceeded, InvalidArgument, NotFound
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.settings import LoadSettings


def load(folder: Path) -> Servable:
    """Load a version folder with the settings of a server without flags."""
    return Servable(folder, LoadSettings())


@pytest.fixture(scope="module")
def identities(tiny_models: Path) -> Servable:
    """The model with one signature a dtype."""
    return load(tiny_models / "identities/1")


def values(name: str) -> NDArray[Any]:
    """Make a (2, 2) array of a TensorFlow dtype."""
    if name == "string":
        return np.array([[b"a\x00b", b""], [b"\xff", "é".encode()]], object)
    dtype = np.dtype("float32") if name == "bfloat16" else np.dtype(name)
    array = np.array([[0, 1], [1, 0]]).astype(dtype)
    return array.astype(dtypes.BFLOAT16.to_numpy()) if name == "bfloat16" else array


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back(identities: Servable, name: str) -> None:
    """What goes in as numpy comes out as the same numpy, without a copy of ours in between."""
    given = values(name)
    returned = identities.run(name, {"x": given}, ("y",))["y"]
    assert (returned.dtype, returned.shape) == (given.dtype, given.shape)
    assert np.array_equal(returned, given)


def test_read_only_and_strided_arrays(identities: Servable) -> None:
    """Views into a received message, and slices, are taken as they are."""
    frozen = np.frombuffer(np.arange(4, dtype=np.float32).tobytes(), np.float32).reshape(2, 2)
    strided = np.arange(8, dtype=np.float32).reshape(2, 4)[:, ::2]
    for given in (frozen, strided):
        assert np.array_equal(identities.run("float32", {"x": given}, ("y",))["y"], given)


def test_an_empty_batch(identities: Servable) -> None:
    """Zero rows give zero rows, as in TensorFlow Serving."""
    assert identities.run("float32", {"x": np.zeros((0, 2), np.float32)}, ("y",))["y"].shape == (0, 2)


def test_outputs_in_the_order_asked_for(tiny_models: Path) -> None:
    """Only the wanted outputs are computed and returned."""
    servable = load(tiny_models / "two_inputs/1")
    inputs = {"a": np.ones((1, 3), np.float32), "b": np.full((1, 3), 2, np.float32)}
    assert list(servable.run("serving_default", inputs, ("sum",))) == ["sum"]
    both = servable.run("serving_default", inputs, ("sum", "product"))
    assert list(both) == ["sum", "product"]
    assert both["product"].tolist() == [[6.0]]


def test_the_graphs_own_texts(tiny_models: Path) -> None:
    """A wrong dtype and a wrong shape get the texts of the C++ server, which come from the graph."""
    servable = load(tiny_models / "two_inputs/1")
    good = np.ones((2, 3), np.float32)
    with pytest.raises(InvalidArgument) as caught:
        servable.run("serving_default", {"a": good.astype(np.float64), "b": good}, ("sum",))
    assert caught.value.message == "Expects arg[0] to be float but double is provided"
    with pytest.raises(InvalidArgument) as caught:
        servable.run("serving_default", {"a": good[:, :2], "b": good[:, :2]}, ("product",))
    assert caught.value.message.startswith("Matrix size-incompatible: In[0]: [2,2], In[1]: [3,1]\n\t [[{{node ")


def test_a_time_limit_interrupts(tiny_models: Path) -> None:
    """A run that takes longer than allowed is ended with TensorFlow Serving's text, not left to finish."""
    servable = load(tiny_models / "slow/1")
    x = np.ones(1, np.float32)
    begun = time.monotonic()
    servable.run("serving_default", {"x": x}, ("y",))
    whole_s = time.monotonic() - begun
    with pytest.raises(DeadlineExceeded, match=r"^Timed out waiting for notification$"):
        servable.run("serving_default", {"x": x}, ("y",), timeout_s=whole_s / 20)
    with pytest.raises(DeadlineExceeded):
        servable.run("serving_default", {"x": x}, ("y",), timeout_s=-1.0)


def test_what_cannot_be_loaded(tiny_models: Path, tmp_path: Path) -> None:
    """No file, no SavedModel, wrong tags, no variables: each has its status and names the folder."""
    healthy = tiny_models / "half_plus_two/123"
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage/saved_model.pb").write_bytes(b"\xff" * 100)
    shutil.copytree(healthy, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare/variables")
    shutil.copytree(healthy, tmp_path / "cut")
    data = tmp_path / "cut/variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:3])

    with pytest.raises(NotFound) as caught:
        load(tmp_path / "empty")
    assert caught.value.message == (
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {tmp_path / 'empty'}"
    )
    with pytest.raises(DataLoss, match="garbage"):
        load(tmp_path / "garbage")
    with pytest.raises(NotFound, match=r"Could not find meta graph def matching supplied tags: \{ gpu serve \}"):
        Servable(healthy, LoadSettings(tags=frozenset({"serve", "gpu"})))
    for broken in ("bare", "cut"):
        with pytest.raises(ApiError):
            load(tmp_path / broken)


def test_a_tf1_model(tmp_path: Path) -> None:
    """A SavedModel of TensorFlow 1, with a signature under a name of its own, is served alike."""
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        weight = tf.compat.v1.get_variable("w", initializer=3.0, use_resource=False)
        y = tf.multiply(x, weight, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"triple": signature})
        builder.save()
    servable = load(tmp_path / "1")
    assert servable.run("triple", {"x": np.array([2.0], np.float32)}, ("y",))["y"].tolist() == [6.0]


def test_closing_gives_the_memory_back(tmp_path: Path) -> None:
    """A hundred megabytes of weights, loaded and closed six times, do not pile up."""
    import tensorflow as tf

    def save() -> None:
        module = tf.Module()
        module.w = tf.Variable(tf.random.normal([5000, 5000]))
        spec = tf.TensorSpec([None, 5000], name="x")
        module.f = tf.function(lambda x: {"y": x @ module.w}, input_signature=[spec])
        tf.saved_model.save(module, str(tmp_path / "1"), signatures={"serving_default": module.f})

    save()
    gc.collect()

    def load_run_close() -> float:
        servable = load(tmp_path / "1")
        servable.run("serving_default", {"x": np.ones((1, 5000), np.float32)}, ("y",))
        servable.close()
        resident = Path("/proc/self/statm").read_text().split()[1]
        return int(resident) * 4096 / 1e6

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here to read memory from")
    after = [load_run_close() for _ in range(6)]
    assert after[-1] - after[1] < 50, after

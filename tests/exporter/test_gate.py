"""The gate: a version that does not answer like its source does not appear."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows, sequential
from tests.models import save_half_plus
from tfbundle_exporter import export_model
from tfbundle_exporter.folder.warmup import warmup_requests, write_warmup
from tfbundle_exporter.proof.example_inputs import draw_examples
from tfbundle_exporter.proof.gate import pass_gate
from tfbundle_exporter.proof.reference import Predict, ask
from tfbundle_exporter.settings import GateSettings
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import ExportError, GateError
from tfbundle_serving.apis.prediction_log import RecordedRequest
from tfbundle_serving.apis.signatures import TensorSpec
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

X = {"x": np.linspace(-1, 1, 9, dtype=np.float32)}


def half_plus(addend: float) -> Predict:
    """Play the source model y = x / 2 + addend."""
    return lambda inputs: {"y": (inputs["x"] / np.float32(2) + np.float32(addend)).astype(np.float32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A staged y = x / 2 + 2."""
    return save_half_plus(tmp_path / "staged")


def test_what_agrees_passes(folder: Path) -> None:
    """The report has the batch sizes that were tried and what was measured."""
    report = pass_gate(folder, {"serving_default": ask(half_plus(2), X)})
    assert report.batch_sizes == (1, 2, 3, 9, 33)
    assert report.rows == 9
    assert report.batchable
    assert report.deterministic
    assert report.max_abs_diff < 1e-6
    assert report.argmax_agreement is None
    assert report.noise_floor == 0
    assert report.allowed == ()
    assert report.files == len([path for path in folder.rglob("*") if path.is_file()])
    assert "AddV2" in report.ops.ops
    assert report.ops.tensorflow_version.startswith("2.")


def test_another_answer_is_named(folder: Path) -> None:
    """Signature, output, batch size and elements stand in the error."""
    with pytest.raises(GateError) as caught:
        pass_gate(folder, {"serving_default": ask(half_plus(2.001), X)})
    assert "signature 'serving_default', output 'y', batch of 1: " in str(caught.value)
    assert "at [0] expected 1.50099993, got 1.5" in str(caught.value)


def wrong_at(size: int) -> Predict:
    """Play a source whose answers the staged version meets at every batch size but one."""

    def predict(inputs: Any) -> dict[str, NDArray[Any]]:
        right = half_plus(2)(inputs)["y"]
        return {"y": right + np.float32(len(right) == size)}

    return predict


@pytest.mark.parametrize("size", [1, 2, 3, 9, 33])
def test_every_batch_size_is_compared(size: int, folder: Path) -> None:
    """A difference at one batch size only is found there."""
    with pytest.raises(GateError, match=f"batch of {size}: .*{size} of {size} values differ"):
        pass_gate(folder, {"serving_default": ask(wrong_at(size), X)})


def test_other_outputs_and_signatures(folder: Path) -> None:
    """Names must agree, too."""
    other = ask(lambda inputs: {"z": inputs["x"]}, X)
    with pytest.raises(GateError, match="answers with y; the source with z"):
        pass_gate(folder, {"serving_default": other})
    with pytest.raises(GateError, match="no signature 'classify'; it has serving_default"):
        pass_gate(folder, {"classify": other})
    with pytest.raises(GateError, match="'serving_default' fails on w"):
        pass_gate(folder, {"serving_default": ask(lambda inputs: {"y": inputs["w"]}, {"w": X["x"]})})


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_damage_on_the_way_to_the_disk(name: str, folder: Path) -> None:
    """What was written is read back, so a damaged file does not get through."""
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(GateError, match="cannot be loaded"):
        pass_gate(folder, {"serving_default": ask(half_plus(2), X)})


def test_warmup_is_replayed(folder: Path) -> None:
    """Good records are counted; one that the version cannot answer is found."""
    reference = {"serving_default": ask(half_plus(2), X)}
    write_warmup(folder, warmup_requests("m", reference))
    assert pass_gate(folder, reference).warmup_records == 3
    bad = RecordedRequest(signature="serving_default", inputs={"w": np.ones(2, np.float32)})
    (folder / WARMUP_REQUESTS).unlink()
    write_warmup(folder, [*warmup_requests("m", reference), bad])
    with pytest.raises(GateError, match="warm-up record 4: signature 'serving_default' fails on w"):
        pass_gate(folder, reference)
    (folder / WARMUP_REQUESTS).write_bytes(b"\0" * 40)
    with pytest.raises(GateError, match="warm-up record 1 cannot be read back"):
        pass_gate(folder, reference)


def test_the_noise_floor_is_the_sources_own() -> None:
    """It says how far the source is from itself when the same rows come in other batches."""
    noisy = ask(lambda inputs: {"y": inputs["x"] + np.float32(1e-3 * (len(inputs["x"]) == 2))}, X)
    assert noisy.noise_floor == pytest.approx(1e-3, rel=1e-3)


def test_random_layers_are_refused(k: Any, tmp_path: Path) -> None:
    """A layer that draws numbers in inference answers differently each time; op and option are named."""
    import tensorflow as tf

    class Noise(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + tf.random.normal(tf.shape(x))

    model = k.Sequential([k.layers.Input((50,), name="x"), Noise(name="noise")])
    with pytest.raises(GateError) as caught:
        export_model(model, tmp_path / "m", example_inputs=rows(50))
    assert "output 'noise': the source model answers the same request differently each time" in str(caught.value)
    assert "at work is op RandomStandardNormal (node " in str(caught.value)
    assert "--allow random" in str(caught.value)
    assert not (tmp_path / "m").exists()


def save(folder: Path, predict: Any, *variables: Any, shape: tuple[int | None, ...] = (None,)) -> Path:
    """Save a function of a float32 `x` as serving_default, with the variables that it uses."""
    import tensorflow as tf

    module = tf.Module()
    module.variables_of_it = list(variables)
    function = tf.function(
        predict, autograph=False, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")]
    ).get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    return folder


def test_a_random_version_may_be_allowed(tmp_path: Path) -> None:
    """Its values prove nothing; shape, dtype and finiteness are held against the source's, and the report says so."""
    import tensorflow as tf

    folder = save(tmp_path / "noise", lambda x: {"y": x + tf.random.normal(tf.shape(x))})
    draw = np.random.default_rng(0)
    reference = ask(lambda arrays: {"y": arrays["x"] + draw.normal(size=arrays["x"].shape).astype(np.float32)}, X)
    assert reference.unsteady == ("y",)
    with pytest.raises(GateError, match="--allow random"):
        pass_gate(folder, {"serving_default": reference})
    allowed = GateSettings(allow=frozenset({"random", "stateful"}))
    report = pass_gate(folder, {"serving_default": reference}, allowed)
    assert report.allowed == ("random",)
    assert not report.deterministic
    assert not report.batchable
    assert not report.parity["serving_default"]["y"].by_value
    assert report.max_abs_diff == 0
    wide = ask(lambda arrays: {"y": draw.normal(size=(len(arrays["x"]), 2)).astype(np.float32)}, X)
    with pytest.raises(GateError, match=r"output 'y', batch of 1: .* expected float32 \(1, 2\), got float32 \(1,\)"):
        pass_gate(folder, {"serving_default": wide}, allowed)
    broken = save(tmp_path / "nan", lambda x: {"y": x + tf.random.normal(tf.shape(x)) * np.float32(np.inf)})
    with pytest.raises(GateError, match="expected finite numbers"):
        pass_gate(broken, {"serving_default": reference}, allowed)


def test_a_layer_with_state_may_be_allowed(tmp_path: Path) -> None:
    """Each batch is asked of a version that was loaded anew, as the source was asked after a reset."""
    import tensorflow as tf

    memory = tf.Variable(0.0)
    folder = save(tmp_path / "memory", lambda x: {"y": x + memory.assign_add(1.0)}, memory)
    calls = [0]

    def predict(arrays: Any) -> dict[str, NDArray[Any]]:
        calls[0] += 1
        return {"y": arrays["x"] + np.float32(calls[0])}

    def reset() -> None:
        calls[0] = 0

    references = {"serving_default": ask(predict, X, stateful=("lstm",), reset=reset)}
    with pytest.raises(GateError, match=r"lstm keeps state from one request to the next: .* --allow stateful"):
        pass_gate(folder, references)
    report = pass_gate(folder, references, GateSettings(allow=frozenset({"stateful"})))
    assert report.allowed == ("stateful",)
    assert not report.deterministic
    assert not report.batchable
    assert report.max_abs_diff == 0


def test_one_batch_size_may_be_allowed(tmp_path: Path) -> None:
    """A graph that takes eight rows and no other number is asked for eight."""
    folder = save(tmp_path / "eight", lambda x: {"y": x * 2.0}, shape=(8,))
    inputs = draw_examples({"x": TensorSpec(dtypes.FLOAT, (8,))}, seed=0)
    references = {"serving_default": ask(lambda arrays: {"y": arrays["x"] * np.float32(2)}, inputs, batched=False)}
    with pytest.raises(GateError, match=r"one number of rows and no other \(x \(8,\)\): .* --allow fixed-batch"):
        pass_gate(folder, references)
    report = pass_gate(folder, references, GateSettings(allow=frozenset({"fixed-batch"})))
    assert (report.allowed, report.batch_sizes, report.rows) == (("fixed-batch",), (), 8)
    assert not report.batchable


def test_the_same_request_must_get_the_same_answer(tmp_path: Path) -> None:
    """A version that agrees with its source at first and remembers that it was asked is refused for it."""
    import tensorflow as tf

    seen = tf.Variable(0.0)

    def predict(x: Any) -> Any:
        # Six batches are asked twice each; this is the last one's second time.
        drift = tf.cast(seen.assign_add(1.0) > 11.0, tf.float32)
        return {"y": x / 2.0 + 2.0 + drift}

    folder = save(tmp_path / "counter", predict, seen)
    references = {"serving_default": ask(half_plus(2), X)}
    with pytest.raises(GateError) as caught:
        pass_gate(folder, references)
    assert "the same request got two answers" in str(caught.value)
    assert "at work is op AssignAddVariableOp" in str(caught.value)
    assert not pass_gate(folder, references, GateSettings(allow=frozenset({"stateful"}))).deterministic


def test_a_version_holds_files_and_nothing_else(folder: Path) -> None:
    """A link leads nowhere once the folder is mounted elsewhere, and a pipe would hang the server."""
    references = {"serving_default": ask(half_plus(2), X)}
    (folder / "assets/link").symlink_to(folder / "saved_model.pb")
    with pytest.raises(GateError, match="assets/link, a symbolic link"):
        pass_gate(folder, references)
    (folder / "assets/link").unlink()
    os.mkfifo(folder / "assets/pipe")
    with pytest.raises(GateError, match="assets/pipe, a pipe"):
        pass_gate(folder, references)


def test_too_many_warmup_records(folder: Path) -> None:
    """TensorFlow Serving would refuse the whole version."""
    record = RecordedRequest(signature="", inputs={"x": np.ones(1, np.float32)})
    write_warmup(folder, [record] * 1001)
    with pytest.raises(GateError, match="more than 1000"):
        pass_gate(folder, {"serving_default": ask(half_plus(2), X)})


def test_state_that_would_leak_between_callers_is_refused(k: Any, tmp_path: Path) -> None:
    """A stateful recurrent layer remembers the request before; it also bakes its batch size into the graph."""
    layer = k.layers.LSTM(3, stateful=True, name="memory")
    if k.__name__ == "keras":
        model = k.Sequential([k.layers.Input(batch_shape=(1, 4, 2), name="x"), layer])
    else:
        model = k.Sequential([k.layers.Input(batch_input_shape=(1, 4, 2), name="x"), layer])
    with pytest.raises(ExportError):
        export_model(model, tmp_path / "m", example_inputs=rows(4, 2))
    assert not (tmp_path / "m").exists()


def test_rows_that_depend_on_each_other_are_measured(k: Any, tmp_path: Path) -> None:
    """A model that looks at its whole batch is exported right and declared not batchable."""
    if k.__name__ == "keras":
        mean = k.ops.mean
    else:
        import tensorflow as tf

        mean = tf.reduce_mean
    x = k.Input((3,), name="x")
    model = k.Model(x, x - mean(x, axis=0, keepdims=True))
    metadata = export_model(model, tmp_path / "m", example_inputs=rows(3)).metadata
    assert metadata["batchable"] is False
    assert metadata["deterministic"] is True
    assert export_model(sequential(k).model, tmp_path / "n").metadata["batchable"] is True

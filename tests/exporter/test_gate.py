"""The gate: a version that does not answer like its source does not appear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows, sequential
from tests.models import save_half_plus
from tfbundle_exporter import export_model
from tfbundle_exporter.folder.warmup import warmup_requests, write_warmup
from tfbundle_exporter.proof.gate import pass_gate
from tfbundle_exporter.proof.reference import Predict, ask
from tfbundle_serving.apis.errors import ExportError, GateError
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest

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
    assert report.batch_sizes == (1, 2, 3, 9)
    assert report.rows == 9
    assert report.batchable
    assert report.deterministic
    assert report.max_abs_diff < 1e-6
    assert report.argmax_agreement is None
    assert report.noise_floor == 0


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


@pytest.mark.parametrize("size", [1, 2, 3, 9])
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
    bad = PredictRequest(ModelSpec("m"), {"w": np.ones(2, np.float32)})
    write_warmup(folder, [*warmup_requests("m", reference), bad])
    with pytest.raises(GateError, match="warm-up record 4: signature 'serving_default' fails on w"):
        pass_gate(folder, reference)
    (folder / "assets.extra/tf_serving_warmup_requests").write_bytes(b"\0" * 40)
    with pytest.raises(GateError, match="warm-up record 1 cannot be read back"):
        pass_gate(folder, reference)


def test_the_noise_floor_is_the_sources_own() -> None:
    """It says how far the source is from itself when the same rows come in other batches."""
    noisy = ask(lambda inputs: {"y": inputs["x"] + np.float32(1e-3 * (len(inputs["x"]) == 2))}, X)
    assert noisy.noise_floor == pytest.approx(1e-3, rel=1e-3)


def nothing_published(base: Path) -> None:
    """Expect no version and no staging folder."""
    assert [path.name for path in base.iterdir()] == [".lock"]


def test_random_layers_are_refused(k: Any, tmp_path: Path) -> None:
    """A layer that draws numbers in inference answers differently each time."""
    import tensorflow as tf

    class Noise(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x + tf.random.normal(tf.shape(x))

    model = k.Sequential([k.layers.Input((50,), name="x"), Noise(name="noise")])
    with pytest.raises(GateError, match="output 'noise'"):
        export_model(model, tmp_path / "m", example_inputs=rows(50))
    nothing_published(tmp_path / "m")


def test_the_same_request_must_get_the_same_answer(folder: Path, tmp_path: Path) -> None:
    """A version that agrees with its source once and remembers it is refused for that."""
    import tensorflow as tf

    class Counter(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seen = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def predict(self, x: Any) -> Any:
            # Five batches are compared, the sixth call asks the last again.
            drift = tf.cast(self.seen.assign_add(1.0) > 5.0, tf.float32)
            return {"y": x / 2.0 + 2.0 + drift}

    counter = Counter()
    tf.saved_model.save(counter, str(tmp_path / "counter"), signatures={"serving_default": counter.predict})
    with pytest.raises(GateError, match="the same request got two answers"):
        pass_gate(tmp_path / "counter", {"serving_default": ask(half_plus(2), X)})
    assert pass_gate(folder, {"serving_default": ask(half_plus(2), X)}).deterministic


def test_state_that_would_leak_between_callers_is_refused(k: Any, tmp_path: Path) -> None:
    """A stateful recurrent layer remembers the request before; it also bakes its batch size into the graph."""
    layer = k.layers.LSTM(3, stateful=True, name="memory")
    if k.__name__ == "keras":
        model = k.Sequential([k.layers.Input(batch_shape=(1, 4, 2), name="x"), layer])
    else:
        model = k.Sequential([k.layers.Input(batch_input_shape=(1, 4, 2), name="x"), layer])
    with pytest.raises(ExportError):
        export_model(model, tmp_path / "m", example_inputs=rows(4, 2))
    assert not list((tmp_path / "m").glob("[0-9]*"))


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

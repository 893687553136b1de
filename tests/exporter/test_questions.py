"""What each signature of a source is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.small_source import call_of, source, spec
from tfbundle_exporter import export_model
from tfbundle_exporter.proof.questions import ask_all
from tfbundle_exporter.settings import Examples, SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path


def test_a_signature_without_inputs() -> None:
    """A function that takes nothing, as one that tells the model's version, is asked once and has no rows."""
    import tensorflow as tf

    def about() -> Any:
        return tf.constant([1, 4])

    model = source({"x": spec("float32", 2)}, ("y",), lambda x: x, others={"about": call_of({}, ("number",), about)})
    answers = ask_all(model, build_endpoints(model, SignatureSettings()), Examples(), allow_unproven=False)
    reference = answers.references["about"]
    assert not reference.is_batched
    np.testing.assert_array_equal(reference.batches[-1].outputs["number"], [1, 4])


def test_floats_that_are_indices(k: Any, tmp_path: Path) -> None:
    """A model that takes indices as floats fails on most numbers; zeros and ones are drawn for it."""
    layers = [k.Input((7,), name="x"), k.layers.Embedding(5, 3), k.layers.Flatten(), k.layers.Dense(2, name="y")]
    exported = export_model(k.Sequential(layers), tmp_path / "m")
    drawn = read_golden(golden_path(exported.path))["serving_default"].inputs["x"]
    assert set(np.unique(drawn)) == {0.0, 1.0}


def test_sequences_that_must_be_long(k: Any, tmp_path: Path) -> None:
    """A model that crops fifty steps at either end is asked with longer sequences than others."""
    x = k.Input((None, 2), name="x")
    exported = export_model(k.Model(x, k.layers.Cropping1D(50, name="y")(x)), tmp_path / "m")
    assert read_golden(golden_path(exported.path))["serving_default"].inputs["x"].shape[1] == 128


def test_texts_that_cannot_stand_alone(tmp_path: Path) -> None:
    """A drawn text that the source fails on alone is none of the reference inputs: parity asks rows alone."""
    import tensorflow as tf

    class Longest(tf.Module):  # type: ignore[misc]
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def __call__(self, text: Any) -> Any:
            longest = tf.reduce_max(tf.strings.length(text))
            with tf.control_dependencies([tf.debugging.assert_positive(longest)]):
                return {"length": tf.strings.length(text)}

    exported = export_model(Longest(), tmp_path / "m")
    texts = read_golden(golden_path(exported.path))["serving_default"].inputs["text"]
    assert b"" not in texts.tolist()
    assert len(texts) > 20


def two_signatures(folder: Path) -> Path:
    """Save a model whose second signature takes pictures, which nobody can draw."""
    import tensorflow as tf

    class Both(tf.Module):  # type: ignore[misc]
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def plain(self, x: Any) -> Any:
            return {"y": 2.0 * x}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string, name="png")])
        def picture(self, png: Any) -> Any:
            return {"pixels": tf.io.decode_png(png)}

    module = Both()
    tf.saved_model.save(module, str(folder), {"serving_default": module.plain, "picture": module.picture})
    return folder


def test_a_signature_that_nothing_drawn_fits(tmp_path: Path) -> None:
    """It must be given inputs by its name, or be let pass unproven, which metadata.json then says."""
    saved = two_signatures(tmp_path / "saved")
    with pytest.raises(ExportError, match=r"as members picture/NAME; or --allow unproven"):
        export_model(saved, tmp_path / "m")
    exported = export_model(saved, tmp_path / "m", allow=["unproven", "fixed-batch"])
    assert exported.metadata["unproven"] == ["picture"]
    assert exported.metadata["allowed"] == ["unproven"]
    assert set(exported.metadata["parity"]["signatures"]) == {"serving_default"}


def test_inputs_by_signature(tmp_path: Path) -> None:
    """SIGNATURE/INPUT names what each signature is asked."""
    import tensorflow as tf

    png = np.asarray(tf.io.encode_png(np.zeros((2, 3, 1), np.uint8)).numpy(), object)
    given = {"serving_default/x": np.ones((3, 2), np.float32), "picture/png": png}
    exported = export_model(
        two_signatures(tmp_path / "saved"), tmp_path / "m", example_inputs=given, allow=["fixed-batch"]
    )
    assert set(exported.metadata["parity"]["signatures"]) == {"serving_default", "picture"}
    with pytest.raises(ExportError, match="example inputs name 'other/x'; expected SIGNATURE/INPUT"):
        export_model(tmp_path / "saved", tmp_path / "m", example_inputs={"other/x": np.ones((3, 2))})

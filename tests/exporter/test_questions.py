"""What each signature of a source is asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.exporter.small_source import call_of, source, spec
from tfbundle_exporter.proof.questions import ask_all
from tfbundle_exporter.settings import Examples, SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints


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

"""Versions of a tiny classifier for canary tests: softmax(x @ w), each with one thing that tells it from version 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models import _tensorflow
from tfbundle_serving.apis.golden import Golden, write_golden
from tfbundle_serving.apis.prediction_log import RecordedRequest, encode_prediction_log
from tfbundle_serving.apis.tfrecord import frame
from tfbundle_serving.apis.version_folder import golden_path

#: What an input of this value in its first place does, where a version stumbles over it.
POISON = 9.0
_W = 4.0 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.5, 0.25]], np.float32)


def softmax(x: NDArray[np.float32], w: NDArray[np.float32] = _W) -> NDArray[np.float32]:
    """Compute what a version answers."""
    powers = np.exp(x @ w - (x @ w).max(axis=1, keepdims=True))
    found: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return found


def draw(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Draw inputs."""
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)


def save_classifier(folder: Path, kind: str = "same") -> Path:
    """Save a version.

    Args:
        folder: The version folder, which does not exist.
        kind: same; surer, all scores half as far again apart; broken, one weight changed; poisoned, NaN for POISON;
            failing, an error for POISON; renamed, with another output; joined, rows see each other.
    """
    tf = _tensorflow()
    w = _W * {"surer": 1.5}.get(kind, 1.0)
    if kind == "broken":
        w = w.copy()
        w[3, 2] += 12.0

    class Classifier(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.w = tf.Variable(w)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def predict(self, x: Any) -> Any:
            poison = tf.equal(x[:, :1], POISON)
            logits = tf.matmul(x - tf.reduce_mean(x, axis=0) if kind == "joined" else x, self.w)
            if kind == "poisoned":
                logits = tf.where(poison, np.float32("nan"), logits)
            if kind == "failing":
                with tf.control_dependencies([tf.debugging.assert_none_equal(x[:, 0], POISON, message="poison")]):
                    logits = tf.identity(logits)
            return {"classes" if kind == "renamed" else "probabilities": tf.nn.softmax(logits)}

    module = Classifier()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    if kind not in ("renamed", "joined"):
        x = draw(64, seed=9)
        golden_path(folder).parent.mkdir()
        write_golden(golden_path(folder), {"serving_default": Golden({"x": x}, {"probabilities": softmax(x, w)})})
    return folder


def record(path: Path, requests: Sequence[NDArray[Any]], model: str = "c", signature: str = "serving_default") -> Path:
    """Write requests as a server records them."""
    logs = [
        encode_prediction_log(RecordedRequest(signature=signature, inputs={"x": each}, model=model))
        for each in requests
    ]
    path.write_bytes(b"".join(bytes(chunk) for chunk in frame([[log] for log in logs])))
    return path

"""Ops that a stock server cannot run, or should not, are found in the saved graph before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfbundle_exporter.proof.gate import pass_gate
from tfbundle_exporter.proof.op_scan import OpScan, scan_ops
from tfbundle_exporter.proof.reference import Predict, ask
from tfbundle_exporter.proof.staged_version import is_registered_op
from tfbundle_exporter.settings import GateSettings
from tfbundle_serving.apis.errors import DecodeError, GateError

X = {"x": np.linspace(-1, 1, 9, dtype=np.float32)}
SAME: Predict = lambda arrays: {"y": arrays["x"]}  # noqa: E731


def save(folder: Path, predict: Callable[[Any], Any], **more: Any) -> Path:
    """Save x -> predict(x) as serving_default; `more` are further functions that no signature calls."""
    import tensorflow as tf

    module = tf.Module()
    for name, function in more.items():
        setattr(module, name, function)
    spec = tf.TensorSpec([None], tf.float32, name="x")
    module.predict = tf.function(lambda x: {"y": predict(x)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


def scan(folder: Path) -> OpScan:
    """Scan a folder's SavedModel."""
    return scan_ops(folder / "saved_model.pb", is_known=is_registered_op)


def python(x: Any) -> Any:
    """Double x in numpy."""
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(lambda array: array * 2, [x], tf.float32), [None])


def file(x: Any) -> Any:
    """Add the length of a file."""
    import tensorflow as tf

    return x + tf.cast(tf.strings.length(tf.io.read_file(__file__)), tf.float32)


def xla(x: Any) -> Any:
    """Double x in a function that must be compiled."""
    import tensorflow as tf

    return tf.function(lambda y: y * 2.0, jit_compile=True, autograph=False)(x)


def in_a_branch(x: Any) -> Any:
    """Call numpy in one branch of a condition, inside a loop."""
    import tensorflow as tf

    def step(i: Any, y: Any) -> Any:
        return i + 1, tf.cond(tf.reduce_sum(y) > 1e9, lambda: python(y), lambda: y)

    return tf.while_loop(lambda i, _: i < 2, step, (tf.constant(0), x))[1]


@pytest.mark.parametrize(
    ("build", "kind", "op", "remedy"),
    [
        (python, "python", "PyFunc", "TensorFlow's own ops instead of numpy_function"),
        (file, "files", "ReadFile", "vocabulary as an asset"),
        (xla, "xla", "", "without jit_compile=True"),
        (in_a_branch, "python", "PyFunc", "numpy_function"),
    ],
    ids=["numpy", "file", "xla", "nested"],
)
def test_what_a_stock_server_fails_on(build: Any, kind: Any, op: str, remedy: str, tmp_path: Path) -> None:
    """The gate names op, node and function, says what to do, and lets it pass only where it is allowed."""
    folder = save(tmp_path / "m", build)
    found = scan(folder).of_kind(kind)
    assert found
    assert found[0].op.startswith(op)
    assert found[0].function
    with pytest.raises(GateError) as caught:
        pass_gate(folder, {"serving_default": ask(SAME, X)})
    assert str(caught.value).startswith("the graph holds op ")
    assert found[0].node in str(caught.value)
    assert remedy in str(caught.value)
    assert "--allow ops" in str(caught.value)


def test_ops_that_are_allowed_are_reported(tmp_path: Path) -> None:
    """With the allowance the version is proven as any other, and the report lists the op."""
    folder = save(tmp_path / "m", xla)
    double = ask(lambda arrays: {"y": arrays["x"] * np.float32(2)}, X)
    report = pass_gate(folder, {"serving_default": double}, GateSettings(allow=frozenset({"ops"})))
    assert report.allowed == ("ops",)
    told = report.ops.to_json()
    assert told["findings"][0]["kind"] == "xla"
    assert told["producer"] > 1000


def test_what_no_request_reaches_is_not_held_against_a_version(tmp_path: Path) -> None:
    """Keras keeps functions for training beside those for serving, and every SavedModel has its saver's file ops."""
    import tensorflow as tf

    spec = tf.TensorSpec([None], tf.float32)
    idle = tf.function(lambda x: tf.random.normal(tf.shape(x)) + python(x), input_signature=[spec], autograph=False)
    idle.get_concrete_function()
    folder = save(tmp_path / "m", lambda x: x * 1.0, idle=idle)
    graph = (folder / "saved_model.pb").read_bytes()
    assert b"SaveV2" in graph
    assert b"RandomStandardNormal" in graph
    found = scan(folder)
    assert found.findings == ()
    assert "Mul" in found.ops
    assert not {"SaveV2", "RestoreV2", "PyFunc", "RandomStandardNormal"} & set(found.ops)


def test_ops_that_tensorflow_does_not_know(tmp_path: Path) -> None:
    """An op of an add-on that is not built into the server, wherever it stands, keeps the whole graph from loading."""
    folder = save(tmp_path / "m", lambda x: x * 1.0 + 3.0)
    path = folder / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"\x05AddV2", b"\x05Addon"))
    found = scan(folder).of_kind("unknown")
    assert found[0].op == "Addon"
    with pytest.raises(GateError, match=r"the graph holds op Addon .*TensorFlow itself does not know it"):
        pass_gate(folder, {"serving_default": ask(SAME, X)})


def test_random_and_stateful_ops_are_noted(tmp_path: Path) -> None:
    """They are no reason to refuse a version, but name the place where an answer that changes comes from."""
    import tensorflow as tf

    seen = tf.Variable(0.0)

    def predict(x: Any) -> Any:
        tf.print("asked")
        return x + seen.assign_add(1.0) + tf.random.stateless_uniform([], [1, 2])

    found = scan(save(tmp_path / "m", predict, seen=seen))
    assert {finding.kind for finding in found.findings} == {"random", "state", "print"}
    assert [finding.op for finding in found.of_kind("state")] == ["AssignAddVariableOp"]


@pytest.mark.parametrize("content", [b"", b"\x0a\xff", b"\x08\x01"])
def test_what_is_no_saved_model(content: bytes, tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(DecodeError, match=r"saved_model\.pb"):
        scan(tmp_path)

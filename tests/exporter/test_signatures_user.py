"""Signatures of the user's own functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.small_source import Version, source, spec
from tfbundle_exporter.models.live import adapt
from tfbundle_exporter.models.source_model import SourceModel
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_serving.apis.errors import ExportError

X = np.array([[1, 2], [3, 4], [-5, 6]], "f4")


@pytest.fixture(scope="module")
def factor() -> Any:
    """The model's one variable."""
    import tensorflow as tf

    return tf.Variable(3.0, name="factor")


def model_of(factor: Any) -> SourceModel:
    """Make a model that multiplies."""
    return source({"x": spec("float32", 2)}, ("y",), lambda x: x * factor, variables=(factor,))


def functions(factor: Any) -> dict[str, Any]:
    """Write the same function in every form that is taken."""
    import tensorflow as tf

    x = tf.TensorSpec((None, 2), tf.float32, name="x")

    def divide(x: Any) -> Any:
        return x / factor

    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[x], autograph=False)
        def divide(self, x: Any) -> Any:
            return divide(x)

    keep = Module()
    return {
        "tf_function": tf.function(divide, input_signature=[x], autograph=False),
        "method": keep.divide,
        "concrete": tf.function(divide, autograph=False).get_concrete_function(x),
        "plain": (divide, [x]),
        "by_name": (lambda *, x: divide(x), {"x": tf.TensorSpec((None, 2))}),
        "untyped": (tf.function(divide, autograph=False), (x,)),
        "mapping": (lambda x: {"second": -x, "first": x / factor}, [x]),
        "several": (lambda x: (x / factor, -x), [x]),
        "renamed": (divide, [tf.TensorSpec((None, 2), tf.float32, name="values")]),
    }


OUTPUTS = {"mapping": ("first", "second"), "several": ("output_0", "output_1")}
NAMES = (
    "tf_function",
    "method",
    "concrete",
    "plain",
    "by_name",
    "untyped",
    "mapping",
    "several",
    "renamed",
)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, factor: Any) -> Version:
    """A model with a signature of each form."""
    settings = SignatureSettings(functions=functions(factor))
    return Version(tmp_path_factory.mktemp("user") / "1", model_of(factor), settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_served(version: Version, name: str) -> None:
    """The function's arguments are the inputs, its dict's keys or numbers the outputs."""
    (given,) = version.endpoints[name].inputs
    assert given == ("values" if name == "renamed" else "x")
    answer = version.ask(name, {given: X})
    first, *second = OUTPUTS.get(name, ("output_0",))
    assert answer.keys() == {first, *second}
    np.testing.assert_allclose(answer[first], X / 3)
    assert version.endpoints[name].predict({given: X}).keys() == answer.keys()


def test_inputs_of_the_model_are_proven_on_its_examples(version: Version) -> None:
    """A function of the model's own inputs gets the user's example inputs; another one has some drawn."""
    assert version.examples("plain", {"x": X})["x"] is X
    assert version.endpoints["plain"].around == "serving_default"
    assert version.endpoints["renamed"].examples is None
    assert version.endpoints["renamed"].around == ""


def stray(kind: str) -> Any:
    """Write a function that does not fit, of a kind."""
    import tensorflow as tf

    x = tf.TensorSpec((None, 2), tf.float32, name="x")
    lost = tf.Variable(1.0, name="lost")
    keys = tf.lookup.KeyValueTensorInitializer(["a"], [1])
    table = tf.lookup.StaticHashTable(keys, -1)
    return {
        "variable": (lambda x: x * lost, [x]),
        "table": (lambda text: table.lookup(text), [tf.TensorSpec((None,), tf.string, name="text")]),
        "no function": 3,
        "no specs": tf.function(lambda x: x, autograph=False),
        "failing": (lambda x: x + "a", [x]),
        "ragged": (lambda x: x, [tf.RaggedTensorSpec((None, None))]),
        "nested": (lambda x: {"a": {"b": x}}, [x]),
        "nothing": (lambda x: {}, [x]),  # noqa: ARG005
        "bad input": (lambda x: x, [tf.TensorSpec((None,), name="a:b")]),
        "bad output": (lambda x: {"a b": x}, [x]),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("variable", "uses the variable 'lost', which no layer tracks"),
        ("table", "uses a look-up table, which no layer tracks"),
        ("no function", "expected a tf.function with input_signature="),
        ("no specs", "expected a tf.function with input_signature="),
        ("failing", "signature 'mine': the function cannot be traced"),
        ("ragged", "must take dense tensors"),
        ("nested", "returns a dict as 'a'; expected one tensor, several, or {name: tensor}"),
        ("nothing", "returns nothing"),
        ("bad input", "an input cannot be called"),
        ("bad output", "try 'a_b'"),
    ],
)
def test_what_does_not_fit(factor: Any, kind: str, expected: str) -> None:
    """The error names the signature and what is wrong with its function."""
    with pytest.raises(ExportError) as caught:
        build_endpoints(model_of(factor), SignatureSettings(functions={"mine": stray(kind)}))
    assert expected in str(caught.value)
    assert "signature 'mine'" in str(caught.value)


def test_a_function_of_the_same_name(tmp_path: Path, factor: Any) -> None:
    """Two signatures cannot share a name, and a name is legal."""
    for name, expected in {
        "serving_default": "two signatures are called 'serving_default'",
        "a b": "try 'a_b'",
    }.items():
        with pytest.raises(ExportError, match=expected):
            Version(tmp_path / "1", model_of(factor), SignatureSettings(functions={name: functions(factor)["plain"]}))
    assert not (tmp_path / "1").exists()


def test_variables_that_keras_2_wraps(tf_keras: Any) -> None:
    """A function over a model in mixed precision uses the variables inside of the model's own."""
    import tensorflow as tf

    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        live = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(3)])
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    settings = SignatureSettings(functions={"logits": (lambda x: live(x), [tf.TensorSpec((None, 2), name="x")])})
    assert [each.signature for each in build_endpoints(adapt(live), settings)] == ["serving_default", "logits"]

"""A tf.Module of the user's own becomes a SourceModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.exporter.wrapping import ask, ask_call, wrap
from tests.exporter.zoo import rows
from tfbundle_exporter.models.live import adapt
from tfbundle_serving.apis.errors import ExportError

X = rows(4)


class Scaler(tf.Module):  # type: ignore[misc]
    """A module with three functions, nested variables and a table."""

    def __init__(self) -> None:
        super().__init__(name="scaler")
        self.factor = tf.Variable(3.0)
        self.layers = [{"bias": tf.Variable(np.ones(4, np.float32))}]
        words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2])
        self.table = tf.lookup.StaticHashTable(words, -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="pixels")], autograph=False)
    def __call__(self, x: Any) -> Any:
        return {"scaled": x * self.factor + self.layers[0]["bias"]}

    @tf.function(input_signature=[{"text": tf.TensorSpec([None], tf.string)}], autograph=False)
    def look_up(self, inputs: Any) -> Any:
        return self.table[inputs["text"]], inputs["text"]

    def helper(self, x: Any) -> Any:
        return x


def test_functions_with_an_input_signature_are_calls(tmp_path: Path) -> None:
    """__call__ is the main one; names are those of the specs, of dict keys, or TensorFlow's own for outputs."""
    module = Scaler()
    model = adapt(module)
    assert (model.name, model.family, model.library_version) == ("scaler", "tensorflow", tf.__version__)
    assert {name: str(spec) for name, spec in model.main.inputs.items()} == {"pixels": "float32 (?, 4)"}
    assert model.main.output_names == ("scaled",)
    assert {name: (tuple(call.inputs), call.output_names) for name, call in model.others.items()} == {
        "look_up": (("text",), ("output_0", "output_1"))
    }
    assert set(model.weights) == {"factor", "layers/0/bias"}
    loaded = wrap(model, tmp_path / "m")
    np.testing.assert_array_equal(ask(loaded, [X])["scaled"], module(X)["scaled"].numpy())
    np.testing.assert_array_equal(ask(loaded, [[b"b", b"?"]], "look_up")["output_0"], [2, -1])


def test_a_plain_call_is_traced_on_the_examples() -> None:
    """Without a tf.function the example inputs say what __call__ takes."""

    class Plain(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(2.0)

        def __call__(self, left: Any, right: Any) -> Any:
            return left * self.w - right

    model = adapt(Plain(), examples={"left": X, "right": X})
    assert tuple(model.main.inputs) == ("left", "right")
    np.testing.assert_array_equal(ask_call(model, [X, X])["output_0"], X)
    with pytest.raises(ExportError, match=r"does not say what it takes: make __call__ a tf.function.*--examples"):
        adapt(Plain())


def test_a_module_without_a_main_function_is_refused() -> None:
    """Several functions and none that is meant: the error lists them."""

    class Two(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
        def one(self, x: Any) -> Any:
            return x

        @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
        def two(self, x: Any) -> Any:
            return x

    with pytest.raises(ExportError, match=r"no function to serve by default \(it has one, two\)"):
        adapt(Two())


def test_a_variable_outside_of_the_module_is_refused() -> None:
    """A global variable is in no checkpoint of the module; the error names it."""
    outside = tf.Variable(2.0, name="outside")

    class Leaky(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None])], autograph=False)
        def __call__(self, x: Any) -> Any:
            return x * outside

    with pytest.raises(ExportError, match=r"'__call__', uses the variable 'outside'"):
        adapt(Leaky())


def test_a_module_that_forgot_its_base_class() -> None:
    """TensorFlow saves a module whose __init__ does not call its base's, and so it goes by its class's name."""

    class Forgetful(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.factor = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 4])], autograph=False)
        def __call__(self, x: Any) -> Any:
            return x * self.factor

    model = adapt(Forgetful())
    assert model.name == "Forgetful"
    np.testing.assert_array_equal(next(iter(ask_call(model, [X]).values())), 2 * X)

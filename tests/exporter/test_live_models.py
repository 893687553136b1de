"""Live models of every build become SourceModels that compute what they compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.wrapping import ask, ask_call, wrap
from tests.exporter.zoo import LIVE_BUILDERS, rows
from tfbundle_exporter.models.live import adapt, family_of_model
from tfbundle_exporter.models.structure import arrange_examples
from tfbundle_serving.apis.errors import ExportError

X = rows(4)


def described(model: Any) -> dict[str, str]:
    """Show the inputs of the main call."""
    return {name: str(spec) for name, spec in model.main.inputs.items()}


@pytest.mark.parametrize("name", LIVE_BUILDERS)
def test_graphs_of_layers(name: str, k: Any, tmp_path: Path) -> None:
    """What is wrapped answers to the last bits what `predict` says, under the layers' names."""
    specimen = LIVE_BUILDERS[name](k)
    model = adapt(specimen.model)
    assert model.main.output_names == specimen.outputs
    assert sorted(model.main.inputs) == sorted(specimen.inputs) or "" in specimen.inputs
    arrays = [specimen.inputs.get(name, next(iter(specimen.inputs.values()))) for name in model.main.inputs]
    loaded = wrap(model, tmp_path / "m")
    # Signatures keep their inputs in the order of the names in the graph.
    order = loaded.signatures["serving_default"]._arg_keywords
    served = ask(loaded, [arrays[list(model.main.inputs).index(name)] for name in order])
    found = specimen.model.predict(_for_predict(specimen, name), verbose=0)
    expected = _flat(found)
    for output, answer in zip(specimen.outputs, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(served[output], np.float64), np.asarray(answer, np.float64), rtol=0, atol=1e-6
        )


def _for_predict(specimen: Any, name: str) -> Any:
    import tensorflow as tf

    inputs = {key: tf.constant(each) if each.dtype == object else each for key, each in specimen.inputs.items()}
    if name == "nested_dicts":
        return {"text": {"word": inputs["word"]}, "pair": [inputs["left"], inputs["right"]]}
    return next(iter(inputs.values())) if len(inputs) == 1 else list(inputs.values())


def _flat(found: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(found))


def test_weights_go_by_their_paths(k: Any) -> None:
    """Each weight has a name that does not depend on what the process built before."""
    model = adapt(LIVE_BUILDERS["many"](k).model)
    assert {"p/kernel", "p/bias", "q/kernel", "q/bias"} < set(model.weights)
    assert model.weight_bytes == sum(4 * int(np.prod(weight.shape)) for weight in model.weights.values())


def plain(k: Any) -> Any:
    """Write a model class with a call of one tensor, an optional second one, and a layer that trains by default."""

    class Noisy(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any, training: bool = True) -> Any:
            return x * 0.0 if training else x

    class Plain(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="plain")
            self.noisy = Noisy()
            self.dense = k.layers.Dense(2, bias_initializer="ones")

        def call(self, x: Any, y: Any = None) -> Any:
            return self.dense(self.noisy(x)) if y is None else self.dense(self.noisy(x)) + y

    return Plain()


def test_a_subclassed_model_is_built_by_one_call(k: Any, tmp_path: Path) -> None:
    """The example inputs make the weights; the input goes by its parameter; inference is inference in every layer."""
    live = plain(k)
    model = adapt(live, examples=X)
    assert described(model) == {"x": "float32 (?, 4)"}
    assert model.main.output_names == ("output_0",)
    served = ask(wrap(model, tmp_path / "m"), [X])["output_0"]
    np.testing.assert_array_equal(served, np.asarray(live(X, training=False)))
    assert np.abs(served - 1.0).max() > 0.01, "the layer that trains by default was left on"


def test_a_second_argument_is_an_input_where_examples_name_it(k: Any) -> None:
    """An optional tensor argument is left out, unless the examples have it."""
    y = np.ones((5, 2), np.float32)
    model = adapt(plain(k), examples={"x": X, "y": y})
    assert described(model) == {"x": "float32 (?, 4)", "y": "float32 (?, 2)"}
    np.testing.assert_array_equal(
        ask_call(model, [X, y])["output_0"], ask_call(adapt(model.live, examples=X), [X])["output_0"] + y
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (X.astype(np.float64), "float32 (?, 4)"),
        (X.tolist(), "float32 (?, 4)"),
        (X.astype(np.float16), "float16 (?, 4)"),
        ({"x": X}, "float32 (?, 4)"),
        ({"arr_0": X}, "float32 (?, 4)"),
        ([X], "float32 (?, 4)"),
    ],
)
def test_the_examples_may_come_in_many_forms(given: Any, expected: str, k: Any) -> None:
    """Arrays, lists of numbers, mappings and archives of one array mean the same; doubles are what Keras casts."""
    assert described(adapt(plain(k), examples=given)) == {"x": expected}


def test_integers_and_texts_stay_what_they_are(k: Any) -> None:
    """A model over ids is not recorded as one over floats; texts are strings."""

    class Words(k.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.look = k.layers.StringLookup(vocabulary=["a", "b"])
            self.embed = k.layers.Embedding(10, 3)

        def call(self, inputs: Any) -> Any:
            return {"ids": self.embed(inputs["ids"]), "words": self.embed(self.look(inputs["words"]))}

    ids, words = np.array([[1, 2], [3, 4]]), np.array([["a"], ["?"]])
    model = adapt(Words(), examples={"words": words, "ids": ids})
    assert described(model) == {"ids": "int64 (?, 2)", "words": "string (?, 1)"}
    assert model.main.output_names == ("ids", "words")
    assert ask_call(model, [ids, words])["words"].shape == (2, 1, 3)


def test_a_sequential_over_ids_takes_ids(k: Any) -> None:
    """A Sequential that begins with an Embedding takes integers, where the examples are."""
    live = k.Sequential([k.layers.Embedding(10, 3), k.layers.GlobalAveragePooling1D()])
    (spec,) = adapt(live, examples=np.array([[1, 2, 3]])).main.inputs.values()
    assert spec.type_name == "int64"
    live = k.Sequential([k.layers.Dense(2)])
    (spec,) = adapt(live, examples=[[1.0, 2.0, 3.0]]).main.inputs.values()
    assert str(spec) == "float32 (?, 3)"


def test_several_arguments_and_lists(k: Any) -> None:
    """Required arguments are inputs by name; a list is told apart by place."""

    class Two(k.Model):  # type: ignore[misc]
        def call(self, left: Any, right: Any, mask: Any = None) -> Any:  # noqa: ARG002  # Keras's own argument
            return left - right, left + right

    class Listed(k.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs[0] - inputs[1]

    for examples in ({"right": X, "left": 2 * X}, [2 * X, X]):
        model = adapt(Two(), examples=examples)
        assert tuple(model.main.inputs) == ("left", "right")
        assert model.main.output_names == ("output_0", "output_1")
        np.testing.assert_array_equal(ask_call(model, [2 * X, X])["output_0"], X)
    model = adapt(Listed(), examples=[2 * X, X])
    assert tuple(model.main.inputs) == ("inputs_0", "inputs_1")
    with pytest.raises(ExportError, match=r"takes left, right.*name a, b"):
        adapt(Two(), examples={"a": X, "b": X})
    with pytest.raises(ExportError, match=r"takes left, right: give example inputs for each"):
        adapt(Two(), examples=X)


def test_a_model_never_called_needs_examples(k: Any) -> None:
    """Without example inputs nobody knows the inputs; the error names the option."""
    for live in (plain(k), k.Sequential([k.layers.Dense(2)])):
        with pytest.raises(ExportError, match=r"never called.*--examples FILE \(example_inputs=\)"):
            adapt(live)
    with pytest.raises(ExportError, match=r"'plain' fails on the example inputs \(x string \(\?,\)\)"):
        adapt(plain(k), examples=np.array(["a", "b"]))


def test_a_model_called_before_says_what_it_takes(k: Any) -> None:
    """The shapes of an earlier call are enough where there are no examples."""
    live = plain(k)
    live(X)
    assert described(adapt(live)) == {"x": "float32 (?, 4)"}


def test_python_control_flow_of_keras_2(tf_keras: Any, tmp_path: Path) -> None:
    """An `if` on a tensor, which `predict` of Keras 2 translates, is translated here as well."""
    import tensorflow as tf

    live = _Branching.make(tf_keras)
    model = adapt(live, examples=X)
    loaded = wrap(model, tmp_path / "m")
    for x in (np.abs(X), -np.abs(X)):
        np.testing.assert_array_equal(ask(loaded, [x])["output_0"], np.abs(x))
    assert tf.executing_eagerly()


class _Branching:
    """Makes a model with a branch; at module level, since the translation reads its source."""

    @staticmethod
    def make(k: Any) -> Any:
        import tensorflow as tf

        class Branching(k.Model):  # type: ignore[misc]
            def call(self, x: Any) -> Any:
                if tf.reduce_sum(x) > 0:
                    return x
                return -x

        return Branching()


def test_state_is_named_and_brought_back(k: Any) -> None:
    """Stateful recurrent layers are listed, bound to their batch size, and reset to where they were."""
    steps = k.Input(batch_shape=(8, 5, 3))
    live = k.Model(steps, k.layers.LSTM(2, stateful=True, name="memory")(steps))
    model = adapt(live)
    assert model.stateful == ("memory",)
    assert model.fixed_batch == 8
    x = rows(5, 3, count=8)
    first, second = (next(iter(ask_call(model, [x]).values())) for _ in range(2))
    assert np.abs(first - second).max() > 1e-4
    assert model.reset is not None
    model.reset()
    np.testing.assert_array_equal(next(iter(ask_call(model, [x]).values())), first)


def test_state_is_part_of_the_version(k: Any, tmp_path: Path) -> None:
    """The variables that hold the state are written with the others, wherever the Keras counts them."""
    live = k.Sequential([k.Input(batch_shape=(2, 5, 3)), k.layers.LSTM(2, stateful=True)])
    model = adapt(live)
    loaded = wrap(model, tmp_path / "m")
    x = rows(5, 3, count=2)
    first, second = (next(iter(ask(loaded, [x]).values())) for _ in range(2))
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_allclose(next(iter(ask_call(model, [x]).values())), first, rtol=0, atol=1e-6)


def test_mixed_precision(k: Any, tmp_path: Path) -> None:
    """Variables that a policy wraps in others are written all the same."""
    k.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        live = k.Sequential([k.Input((4,)), k.layers.Dense(3)])
    finally:
        k.mixed_precision.set_global_policy("float32")
    model = adapt(live)
    served = next(iter(ask(wrap(model, tmp_path / "m"), [X]).values()))
    assert served.dtype.name == "bfloat16"
    np.testing.assert_array_equal(served, next(iter(ask_call(model, [X]).values())))


def test_a_model_of_an_input_alone(tf_keras: Any) -> None:
    """A Sequential without layers gives what it takes."""
    model = adapt(tf_keras.Sequential([tf_keras.Input((4,), name="x")]))
    np.testing.assert_array_equal(next(iter(ask_call(model, [X]).values())), X)


def test_a_batch_size_counts_only_where_the_graph_is_bound_to_it(k: Any) -> None:
    """Input(batch_size=8) alone binds nothing; a reshape to eight rows does."""
    x = k.Input(batch_shape=(8, 4))
    assert adapt(k.Model(x, k.layers.Dense(2)(x))).fixed_batch is None

    class Eight(k.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            import tensorflow as tf

            return tf.reshape(x, (8, -1))

        def compute_output_shape(self, _: Any) -> Any:
            return (8, 4)

    model = adapt(k.Model(x, Eight()(x)))
    assert model.fixed_batch == 8
    assert [str(spec) for spec in model.main.inputs.values()] == ["float32 (8, 4)"]


def test_sparse_and_ragged_inputs_are_refused(k: Any) -> None:
    """Only dense tensors can be served; the error names the input."""
    x = k.Input((4,), sparse=True, name="clicks")
    dense = k.layers.Dense(2)
    with pytest.raises(ExportError, match=r"input 'clicks' is sparse or ragged"):
        adapt(k.Model(x, dense(x)))
    import tensorflow as tf

    with pytest.raises(ExportError, match=r"RaggedTensor; only dense"):
        adapt(plain(k), examples=tf.ragged.constant([[1.0], [2.0, 3.0]]))


def test_a_variable_that_keras_passes_by(k: Any, tmp_path: Path) -> None:
    """A tf.Variable that a layer holds comes along; one that nothing tracks is named and refused."""
    import tensorflow as tf

    stray = tf.Variable(5.0, name="stray")

    class Scale(k.layers.Layer):  # type: ignore[misc]
        def __init__(self, *, loose: bool, **options: Any) -> None:
            super().__init__(**options)
            self.factor = tf.Variable(3.0, name="factor")
            self.loose = loose

        def call(self, x: Any) -> Any:
            return x * self.factor * stray if self.loose else x * self.factor

    model = adapt(k.Sequential([k.Input((4,)), Scale(loose=False, name="scale")]))
    assert any("factor" in path for path in model.weights)
    np.testing.assert_array_equal(ask(wrap(model, tmp_path / "m"), [X])["scale"], 3 * X)
    loose = adapt(k.Sequential([k.Input((4,)), Scale(loose=True, name="scale")]))
    with pytest.raises(ExportError, match=r"the variable 'stray', which no layer tracks.*add_weight"):
        wrap(loose, tmp_path / "loose")


def test_seeds_are_variables(keras: Any) -> None:
    """A random generator's state is among the variables."""
    live = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5, seed=3)])
    assert len(adapt(live).variables) == len(live.variables) == 1


def test_examples_in_the_models_own_structure(k: Any) -> None:
    """Example inputs nested as the model takes them are brought to its flat names."""
    specimen = LIVE_BUILDERS["nested_dicts"](k)
    model = adapt(specimen.model)
    word, left, right = (specimen.inputs[name] for name in ("word", "left", "right"))
    arranged = arrange_examples(model.main.arguments, {"pair": [left, right], "text": {"word": word}})
    assert {name: id(array) for name, array in arranged.items()} == {
        "left": id(left),
        "right": id(right),
        "word": id(word),
    }
    assert arrange_examples(model.main.arguments, specimen.inputs) is specimen.inputs


def test_other_objects_are_refused(k: Any) -> None:
    """What is no model is named."""
    assert family_of_model(plain(k)) == k.__name__
    with pytest.raises(ExportError, match=r"cannot export a builtins\.dict; expected a Keras 3"):
        adapt({})

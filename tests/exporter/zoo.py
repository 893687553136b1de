"""Small models of every build that the exporter takes, in either Keras, with inputs they were not drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]
#: Calls a version folder's signature: folder, inputs, signature; gives the outputs.
Serve = Callable[..., dict[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Specimen:
    """A model, rows for it, and the names that its signature must have."""

    model: Any
    inputs: Inputs
    outputs: tuple[str, ...]

    def answers(self) -> list[NDArray[Any]]:
        """Ask the model by its own `predict`, which the exporter does not use."""
        import tensorflow as tf

        arrays: list[Any] = [tf.constant(each) if each.dtype == object else each for each in self.inputs.values()]
        found = self.model.predict(arrays[0] if len(arrays) == 1 else arrays, verbose=0)
        if isinstance(found, dict):
            return [np.asarray(found[name]) for name in self.outputs]
        return [np.asarray(each) for each in (found if isinstance(found, (list, tuple)) else [found])]


def rows(*shape: int, count: int = 5, seed: int = 1) -> NDArray[np.float32]:
    """Draw float32 rows of a shape."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def sequential(k: Any) -> Specimen:
    """Build a small CNN."""
    layers = k.layers
    model = k.Sequential(
        [
            layers.Input((8, 8, 1), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    return Specimen(model, {"image": rows(8, 8, 1)}, ("probabilities",))


def built_by_call(k: Any) -> Specimen:
    """Build a Sequential without Input layer, whose shape is learnt from a first batch of two."""
    model = k.Sequential([k.layers.Dense(3, name="first"), k.layers.Dense(2, name="second")], name="late")
    model(np.zeros((2, 4), np.float32))
    return Specimen(model, {"": rows(4)}, ("second",))


def functional(k: Any) -> Specimen:
    """Build a model with a skip connection and a shared layer."""
    x = k.Input((6,), name="x")
    shared = k.layers.Dense(6, activation="tanh")
    y = k.layers.Add(name="sum")([shared(shared(x)), x])
    return Specimen(k.Model(x, y), {"x": rows(6)}, ("sum",))


def many(k: Any) -> Specimen:
    """Build a model with two inputs, of other dtypes, and two outputs."""
    left = k.Input((3,), name="left")
    right = k.Input((2,), name="right", dtype="int32")
    both = k.layers.Concatenate()([left, k.layers.Flatten()(k.layers.Embedding(10, 4)(right))])
    model = k.Model([left, right], [k.layers.Dense(2, name="p")(both), k.layers.Dense(1, name="q")(both)])
    inputs: Inputs = {"left": rows(3), "right": np.arange(10, dtype=np.int32).reshape(5, 2)}
    return Specimen(model, inputs, ("p", "q"))


def dicts(k: Any) -> Specimen:
    """Build a model that takes and returns dicts."""
    a, b = k.Input((3,), name="a"), k.Input((3,), name="b")
    total = k.layers.Add()([a, k.layers.Dense(3)(b)])
    model = k.Model({"a": a, "b": b}, {"zeta": k.layers.Dense(2)(total), "alpha": k.layers.Dense(1)(total)})
    return Specimen(model, {"a": rows(3), "b": rows(3, seed=2)}, ("alpha", "zeta"))


def recurrent(k: Any) -> Specimen:
    """Build a bidirectional LSTM over sequences of any length."""
    x = k.Input((None, 3), name="steps")
    y = k.layers.Bidirectional(k.layers.LSTM(4, recurrent_dropout=0.5))(k.layers.Masking()(x))
    return Specimen(k.Model(x, k.layers.Dense(2, name="score")(y)), {"steps": rows(7, 3)}, ("score",))


def states(k: Any) -> Specimen:
    """Build a model three of whose outputs come from one layer."""
    x = k.Input((5, 2), name="steps")
    return Specimen(k.Model(x, k.layers.LSTM(3, return_state=True, name="lstm")(x)), {"steps": rows(5, 2)}, _LSTM)


_LSTM = ("lstm", "lstm_1", "lstm_2")


def float64(k: Any) -> Specimen:
    """Build a model that computes in float64."""
    x = k.Input((4,), name="x", dtype="float64")
    y = k.layers.Dense(2, dtype="float64", name="y")(x)
    return Specimen(k.Model(x, y), {"x": rows(4).astype(np.float64)}, ("y",))


def mixed(k: Any) -> Specimen:
    """Build a model that computes in bfloat16 on float32 weights."""
    x = k.Input((4,), name="x")
    y = k.layers.Dense(2, dtype="mixed_bfloat16", name="y")(k.layers.Dense(8, dtype="mixed_bfloat16")(x))
    return Specimen(k.Model(x, y), {"x": rows(4)}, ("y",))


def nested(k: Any) -> Specimen:
    """Build a model inside a model, half of it frozen."""
    inner = k.Sequential([k.layers.Input((4,)), k.layers.Dense(4, name="deep"), k.layers.BatchNormalization()])
    inner.trainable = False
    x = k.Input((4,), name="x")
    return Specimen(k.Model(x, k.layers.Dense(2, name="y")(inner(x))), {"x": rows(4)}, ("y",))


def texts(k: Any) -> Specimen:
    """Build a model that begins with strings and a vocabulary."""
    words = k.layers.TextVectorization(max_tokens=20, output_sequence_length=4, name="words")
    words.adapt(np.array(["the quick brown fox", "the lazy dog"]))
    text = k.Input((), dtype="string", name="text")
    y = k.layers.Dense(2, name="y")(k.layers.Flatten()(k.layers.Embedding(20, 3)(words(text))))
    found = np.array([b"the dog", b"", b"a quick \xc3\xa9", b"fox fox fox fox fox"], object)
    return Specimen(k.Model(text, y), {"text": found}, ("y",))


def vocabulary_file(k: Any, folder: Path) -> Specimen:
    """Build a model whose vocabulary is a file."""
    (folder / "words.txt").write_text("red\ngreen\nblue\n")
    text = k.Input((1,), dtype="string", name="colour")
    found = k.layers.StringLookup(vocabulary=str(folder / "words.txt"), output_mode="one_hot", name="which")(text)
    return Specimen(k.Model(text, found), {"colour": np.array([[b"red"], [b"blue"], [b"?"]], object)}, ("which",))


#: What every Keras builds, saves in each of its formats and loads again.
BUILDERS: dict[str, Callable[[Any], Specimen]] = {
    builder.__name__: builder
    for builder in (sequential, functional, many, dicts, recurrent, states, float64, mixed, nested, built_by_call)
}


def nested_dicts(k: Any) -> Specimen:
    """Build a model whose inputs and outputs are dicts and lists in dicts."""
    word, left, right = (k.Input((3,), name=name) for name in ("word", "left", "right"))
    total = k.layers.Add(name="total")([word, left, right])
    first, second = k.layers.Dense(2, name="first")(total), k.layers.Dense(1, name="second")(total)
    model = k.Model(
        {"text": {"word": word}, "pair": [left, right]}, {"pose": {"b": first, "a": second}, "all": [total, left]}
    )
    inputs: Inputs = {"left": rows(3), "right": rows(3, seed=2), "word": rows(3, seed=3)}
    return Specimen(model, inputs, ("all", "all_1", "pose_a", "pose_b"))


def preprocessing(k: Any) -> Specimen:
    """Build a model that begins with every kind of preprocessing of numbers and categories."""
    layers = k.layers
    age, plan = k.Input((1,), name="age"), k.Input((1,), dtype="string", name="plan")
    clicks = k.Input((1,), dtype="int64", name="clicks")
    scale = layers.Normalization()
    scale.adapt(np.array([[10.0], [30.0], [50.0]], np.float32))
    parts = [
        scale(age),
        layers.CategoryEncoding(4, output_mode="one_hot")(layers.Discretization([18.0, 40.0, 65.0])(age)),
        layers.StringLookup(vocabulary=["free", "paid"], output_mode="one_hot")(plan),
        layers.CategoryEncoding(5, output_mode="one_hot")(layers.Hashing(5)(plan)),
        layers.IntegerLookup(vocabulary=[3, 7], output_mode="one_hot")(clicks),
    ]
    flat = [layers.Flatten()(layers.Rescaling(1.0)(part)) for part in parts]
    score = layers.Dense(2, name="score")(layers.Concatenate()(flat))
    inputs: Inputs = {
        "age": np.array([[5.0], [33.0], [80.0]], np.float32),
        "plan": np.array([[b"free"], [b"paid"], [b"?"]], object),
        "clicks": np.array([[3], [7], [1]]),
    }
    return Specimen(k.Model([age, plan, clicks], score), inputs, ("score",))


#: What is tried as a live model only.
LIVE_BUILDERS: dict[str, Callable[[Any], Specimen]] = {
    builder.__name__: builder for builder in (many, states, texts, nested_dicts, preprocessing)
}

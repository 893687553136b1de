"""Tiny real models, named after what they compute, written as SavedModels straight through TensorFlow.

They do not go through the exporter, so that a fault of the exporter cannot hide one of the server or the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _tensorflow() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow

    return tensorflow


def save_half_plus(folder: Path, addend: float = 2.0) -> Path:
    """Save y = x / 2 + addend for float32 x of shape (?,)."""
    tf = _tensorflow()

    class HalfPlus(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.a = tf.Variable(0.5)
            self.b = tf.Variable(addend)

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def predict(self, x: Any) -> Any:
            return {"y": self.a * x + self.b}

    module = HalfPlus()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


def save_two_inputs(folder: Path) -> Path:
    """Save sum = a + b and product = a @ w for float32 a and b of shape (?, 3); also a signature `only_sum`."""
    tf = _tensorflow()

    class TwoInputs(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.w = tf.Variable([[1.0], [2.0], [3.0]])

        @tf.function(autograph=False)
        def both(self, a: Any, b: Any) -> Any:
            return {"sum": a + b, "product": tf.matmul(a, self.w)}

        @tf.function(autograph=False)
        def only_sum(self, a: Any, b: Any) -> Any:
            return {"sum": a + b}

    module = TwoInputs()
    specs = {name: tf.TensorSpec([None, 3], tf.float32, name=name) for name in ("a", "b")}
    signatures = {
        "serving_default": module.both.get_concrete_function(**specs),
        "only_sum": module.only_sum.get_concrete_function(**specs),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def save_strings(folder: Path) -> Path:
    """Save upper = upper case, length = byte count and raw_bytes = the same, for string text of shape (?,)."""
    tf = _tensorflow()

    class Strings(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def predict(self, text: Any) -> Any:
            return {
                "upper": tf.strings.upper(text),
                "length": tf.strings.length(text),
                "raw_bytes": tf.identity(text),
            }

    module = Strings()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


#: dtypes that travel over gRPC; the JSON API knows fewer.
DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "complex128", "bool", "string"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def save_identities(folder: Path) -> Path:
    """Save one signature a dtype, named after it, that returns its input `x` of shape (?, 2) as `y`."""
    tf = _tensorflow()
    module = tf.Module()
    signatures = {}
    for name in DTYPES:
        spec = tf.TensorSpec([None, 2], tf.as_dtype(name), name="x")
        function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec], autograph=False)
        setattr(module, f"f_{name}", function)
        signatures[name] = function
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def save_slow(folder: Path, *, rounds: int = 60) -> Path:
    """Save y = x after work that takes about a second on one core: products of 700 x 700 matrices."""
    tf = _tensorflow()

    class Slow(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def predict(self, x: Any) -> Any:
            start = (tf.constant(0), tf.eye(700) + tf.reduce_sum(x) * 0.0)
            _, matrix = tf.while_loop(lambda i, _: i < rounds, lambda i, m: (i + 1, tf.matmul(m, m)), start)
            return {"y": x + 0.0 * tf.reduce_sum(matrix)}

    module = Slow()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


def save_counter(folder: Path) -> Path:
    """Save y = the largest n, counted up to one by one, for int32 n of shape (?,): a small input may take any time."""
    tf = _tensorflow()

    class Counter(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.int32, name="n")])
        def predict(self, n: Any) -> Any:
            end = tf.reduce_max(n)
            return {"y": tf.while_loop(lambda i: i < end, lambda i: (i + 1,), (tf.constant(0),))[0]}

    module = Counter()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


#: Model name to the version folders that it has and what writes each.
CATALOGUE: dict[str, dict[int, Callable[[Path], Path]]] = {
    "half_plus_two": {123: save_half_plus},
    "two_inputs": {1: save_two_inputs},
    "strings": {1: save_strings},
    "identities": {1: save_identities},
    "slow": {1: save_slow},
    "counter": {1: save_counter},
}


def save_catalogue(models_dir: Path) -> Path:
    """Write every model of the catalogue below a folder."""
    for model, versions in CATALOGUE.items():
        for version, save in versions.items():
            save(models_dir / model / str(version))
    return models_dir

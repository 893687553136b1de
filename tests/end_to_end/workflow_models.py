"""The models of the ten workflows, built and trained the way tutorials do."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

Rows = NDArray[np.float32]
Classes = NDArray[np.int64]

#: A user's file with the architecture, as it is written for tf.keras: which Keras that is, the environment decides.
ARCHITECTURE = """
{keras_import}


def build(width=16):
    return keras.Sequential([
        keras.layers.Input((32,), name="features"),
        keras.layers.Dense(width, activation="relu", name="hidden"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10, activation="softmax", name="probabilities"),
    ])


def build_wider():
    return build(24)
"""

#: A user's file with registered classes: a layer of layers, a loss, and a model that uses both.
CUSTOM_PARTS = """
import tensorflow as tf
{keras_import}


@keras.utils.register_keras_serializable(package="my_package")
class Residual(keras.layers.Layer):
    def __init__(self, width, factor=0.5, **named):
        super().__init__(**named)
        self.width, self.factor = width, factor
        self.inner = keras.layers.Dense(width, activation="relu")
        self.outer = keras.layers.Dense(width)

    def call(self, x):
        return x + self.factor * self.outer(self.inner(x))

    def get_config(self):
        return {{**super().get_config(), "width": self.width, "factor": self.factor}}


@keras.utils.register_keras_serializable(package="my_package")
class Weighted(keras.losses.Loss):
    def __init__(self, weight=2.0, name="weighted", **named):
        super().__init__(name=name, **named)
        self.weight = weight

    def call(self, y_true, y_pred):
        return self.weight * tf.reduce_mean(tf.square(y_pred - y_true), axis=-1)

    def get_config(self):
        return {{**super().get_config(), "weight": self.weight}}


def plain_loss(y_true, y_pred):
    return tf.reduce_mean(tf.abs(y_pred - y_true), axis=-1)


def build():
    x = keras.layers.Input((32,), name="features")
    return keras.Model(x, keras.layers.Dense(2, name="score")(Residual(32)(x)))
"""


@contextmanager
def a_keras(name: str) -> Iterator[Any]:
    """Give one of the two Kerases, seeded, without its advice about its own formats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(name)
        module.utils.set_random_seed(5)
        yield module


def write_module(path: Path, text: str, keras_name: str = "") -> Path:
    """Write a user's module; without a name it says `from tensorflow import keras`, as most do."""
    keras_import = f"import {keras_name} as keras" if keras_name else "from tensorflow import keras"
    path.write_text(text.format(keras_import=keras_import))
    return path


def load_module(path: Path) -> ModuleType:
    """Import a user's module here under a name that nothing else finds it by."""
    spec = importlib.util.spec_from_file_location(f"_{path.stem}_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def pictures() -> tuple[tuple[Rows, Classes], tuple[Rows, Classes]]:
    """Give the handwritten digits as colour pictures of 32x32, which CIFAR-10 cannot be here: training and test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images / 16.0).astype(np.float32)
    large = np.kron(small, np.ones((1, 4, 4), np.float32))
    coloured = np.stack([large, 1 - large, large / 2], axis=-1)
    return (coloured[:700], digits.target[:700]), (coloured[1700:], digits.target[1700:])


def picture_net(keras: Any) -> Any:
    """Build and compile the tutorials' small CNN."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((32, 32, 3), name="image"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(4),
            layers.BatchNormalization(momentum=0.8),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def features(count: int = 400) -> tuple[Rows, Classes]:
    """Draw rows of 32 features and classes that are quickly learnt from them."""
    x = np.random.default_rng(3).normal(size=(count, 32)).astype(np.float32)
    classes = x[:, :10].argmax(axis=1)
    x[np.arange(count), classes] += 3
    return x, classes


def compiled(model: Any) -> Any:
    """Compile a classifier of `features`."""
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def accuracy(probabilities: NDArray[Any], classes: Classes) -> float:
    """Give the share of rows whose largest probability is at the true class."""
    return float((probabilities.argmax(axis=1) == classes).mean())

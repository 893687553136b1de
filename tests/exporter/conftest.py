"""Fixtures of the exporter's tests."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import Serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(params=["keras", "tf_keras"])
def k(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each Keras in turn."""
    yield from _module(request.param)


@pytest.fixture
def keras() -> Iterator[Any]:
    """Keras 3."""
    yield from _module("keras")


@pytest.fixture
def tf_keras() -> Iterator[Any]:
    """Keras 2."""
    yield from _module("tf_keras")


def _module(name: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        # Both advise against their own .h5 and complain of TensorFlow's numpy; the exporter is what is tested.
        warnings.simplefilter("ignore")
        if name == "keras":
            import keras as module
        else:
            import tf_keras as module
        module.utils.set_random_seed(7)
        yield module


@pytest.fixture
def serve() -> Serve:
    """Call a version folder's signature through TensorFlow's own loader, by keyword."""
    import tensorflow as tf

    def call(folder: Path, inputs: dict[str, NDArray[Any]], signature: str = "serving_default") -> dict[str, Any]:
        function = tf.saved_model.load(str(folder)).signatures[signature]
        return {
            name: np.asarray(value.numpy())
            for name, value in function(**{alias: tf.constant(array) for alias, array in inputs.items()}).items()
        }

    return call

"""SavedModels that Python runs and a server would not: they are wrapped anew instead of published as they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.zoo import rows
from tfbundle_exporter import export_model
from tfbundle_exporter.folder.kept_saved_model import keep_saved_model
from tfbundle_exporter.proof.graph_reader import read_graph
from tfbundle_exporter.proof.staged_version import StagedVersion
from tfbundle_serving.apis.errors import GateError
from tfbundle_serving.apis.version_folder import SAVED_MODEL


@pytest.fixture
def unfilled(keras: Any, tmp_path: Path) -> Path:
    """A Keras 3 model saved by tf.saved_model.save: its signature reads variables that no server fills."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, name="y")])
    tf.saved_model.save(model, str(tmp_path / "saved"))
    return tmp_path / "saved"


@pytest.fixture
def one_row(keras: Any, tmp_path: Path) -> Path:
    """A subclassed Keras 3 model that was called once on one row before it was saved."""
    import tensorflow as tf

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3, activation="tanh")

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    model = Network()
    model(np.ones((1, 4), np.float32))
    tf.saved_model.save(model, str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_variables_that_stay_empty_are_seen(unfilled: Path, tmp_path: Path) -> None:
    """Published as it is, the folder would fail at its first request; in a session it does."""
    assert any("kernel" in name for name in read_graph(unfilled / SAVED_MODEL).never_filled())
    keep_saved_model(unfilled, tmp_path / "kept")
    with pytest.raises(GateError, match=r"signature 'serving_default' fails on inputs \(1, 4\).*"):
        StagedVersion(tmp_path / "kept").call("serving_default", {"inputs": rows(4, count=1)})


def test_it_is_wrapped_anew(unfilled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The version has all its variables, and the log says why it is not the folder as it was."""
    import tensorflow as tf

    with caplog.at_level(logging.INFO, "tfbundle_exporter"):
        exported = export_model(unfilled, tmp_path / "m")
    assert "wrapping it anew" in caplog.text
    assert read_graph(exported.path / SAVED_MODEL).never_filled() == ()
    expected = tf.saved_model.load(str(unfilled)).signatures["serving_default"](tf.constant(rows(4)))
    (name,) = exported.metadata["signatures"]["serving_default"]["outputs"]
    served = StagedVersion(exported.path).call("serving_default", {"inputs": rows(4)})[name]
    np.testing.assert_allclose(served, np.asarray(next(iter(expected.values()))), atol=1e-6)


def test_one_row_becomes_any_number(one_row: Path, tmp_path: Path) -> None:
    """Rows alone and together get the same answers as the saved model gives one by one."""
    import tensorflow as tf

    exported = export_model(one_row, tmp_path / "m")
    signature = exported.metadata["signatures"]["serving_default"]
    (name, spec), *_ = signature["inputs"].items()
    assert spec["shape"] == [None, 4]
    assert exported.metadata["batchable"]
    function = tf.saved_model.load(str(one_row)).signatures["serving_default"]
    expected = [np.asarray(next(iter(function(tf.constant(row[None])).values())))[0] for row in rows(4)]
    served = StagedVersion(exported.path).call("serving_default", {name: rows(4)})
    np.testing.assert_allclose(next(iter(served.values())), expected, atol=1e-6)


def test_one_row_stays_one_where_that_is_allowed(one_row: Path, tmp_path: Path) -> None:
    """Whoever allows the fixed batch gets the signature that was saved."""
    exported = export_model(one_row, tmp_path / "m", allow=["fixed-batch"])
    (spec,) = exported.metadata["signatures"]["serving_default"]["inputs"].values()
    assert spec["shape"] == [1, 4]
    assert exported.metadata["allowed"] == ["fixed-batch"]

"""metadata.json: what it says is true, and has the form that the schema lays down."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest

from tests.exporter.zoo import built_by_call, many, rows, sequential, states, texts
from tfbundle_exporter import export_model
from tfbundle_exporter.folder.metadata import to_json
from tfbundle_exporter.folder.weights import describe_weights
from tfbundle_serving.apis.version_folder import METADATA_SCHEMA, read_metadata


def validate(content: Any) -> None:
    """Hold a metadata.json against the shipped schema."""
    schema = json.loads(METADATA_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)


def test_the_schema_takes_unlike_builds(k: Any, tmp_path: Path) -> None:
    """Models of unlike builds have a valid metadata.json, and the returned metadata is what stands in it."""
    for build in (many, states, built_by_call, texts):
        exported = export_model(build(k).model, tmp_path / "m")
        content = read_metadata(exported.path)
        validate(content)
        assert content == exported.metadata
        assert content["version"] == exported.version == int(exported.path.name)


def test_the_schema_refuses_what_is_wrong(keras: Any, tmp_path: Path) -> None:
    """A schema that took anything would prove nothing."""
    metadata = export_model(sequential(keras).model, tmp_path / "m").metadata
    changes: list[dict[str, Any]] = [
        {"version": 0},
        {"created_at": "2026-01-01 00:00:00"},
        {"parity": {}},
        {"files": {"saved_model.pb": "abc"}},
        {"unheard_of": 1},
        {"signatures": {}},
    ]
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            validate(metadata | change)


def test_the_files_are_hashed(keras: Any, tmp_path: Path) -> None:
    """Every file of the folder but metadata.json stands there with the SHA-256 of its content."""
    exported = export_model(sequential(keras).model, tmp_path / "m")
    files = {
        path.relative_to(exported.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in exported.path.rglob("*")
        if path.is_file() and path.name != "metadata.json"
    }
    assert exported.metadata["files"] == files
    assert "assets.extra/golden.npz" in files


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_what_the_file_knows_of_its_training(suffix: str, k: Any, tmp_path: Path) -> None:
    """Optimizer, loss and metrics are read from the file, though the model is loaded without them."""
    model = sequential(k).model
    model.compile(k.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(rows(8, 8, 1), np.eye(10, dtype=np.float32)[:5], verbose=0)
    path = tmp_path / f"m{suffix}"
    model.save(path)
    metadata = export_model(path, tmp_path / "m").metadata
    validate(metadata)
    assert metadata["source"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert metadata["training"]["loss"] == "categorical_crossentropy"
    assert "accuracy" in json.dumps(metadata["training"]["metrics"])
    live = export_model(model, tmp_path / "live").metadata["training"]
    assert live["optimizer"]["class_name"] == "Adam"
    assert live["optimizer"]["config"]["learning_rate"] == pytest.approx(0.01)
    assert live["loss"] == "categorical_crossentropy"


def test_what_the_user_says(keras: Any, tmp_path: Path) -> None:
    """Known fields go where they belong, the others under "user"; what the model knows of itself can be amended."""
    metadata = export_model(
        sequential(keras).model,
        tmp_path / "m",
        metadata={
            "training": {"epochs": 5, "seed": np.int64(42), "schedule": "cosine"},
            "data": {"dataset_id": "digits", "split": [0.8, 0.2]},
            "preprocessing": "divide by 16",
            "notes": "first try",
            "owner": "Ada",
            "score": math.nan,
        },
    ).metadata
    validate(metadata)
    assert metadata["training"] == {
        "optimizer": None,
        "loss": None,
        "metrics": None,
        "batch_size": None,
        "epochs": 5,
        "seed": 42,
        "schedule": "cosine",
    }
    assert metadata["data"] == {"dataset_id": "digits", "split": [0.8, 0.2]}
    assert (metadata["preprocessing"], metadata["notes"]) == ("divide by 16", "first try")
    assert metadata["user"] == {"owner": "Ada", "score": None}


def test_the_time_can_be_given(keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SOURCE_DATE_EPOCH stands in for the clock."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert export_model(sequential(keras).model, tmp_path / "m").metadata["created_at"] == "1970-01-01T00:00:00Z"


def test_equal_models_have_equal_fingerprints(keras: Any, tmp_path: Path) -> None:
    """The same model twice is the same; other weights are not, and say so weight by weight."""
    model = sequential(keras).model
    first = export_model(model, tmp_path / "m").metadata
    again = export_model(model, tmp_path / "m").metadata
    assert again["fingerprint"] == first["fingerprint"]
    assert again["weights"] == first["weights"]
    model.layers[-1].bias.assign_add(np.ones(10, np.float32))
    other = export_model(model, tmp_path / "m").metadata
    assert other["fingerprint"] != first["fingerprint"]
    changed = [name for name in first["weights"] if other["weights"][name] != first["weights"][name]]
    assert changed == ["probabilities/bias"]


class TestWeights:
    class Variable:
        """An array that gives itself as a tf.Variable does."""

        def __init__(self, values: Any) -> None:
            self.values = values

        def numpy(self) -> Any:
            return self.values

    def describe(self, values: Any) -> dict[str, Any]:
        """Describe one weight."""
        return describe_weights({"w": self.Variable(values)})["w"]

    def test_figures(self) -> None:
        """They are numpy's, also beyond one block of values."""
        values = np.random.default_rng(0).normal(3, 2, (1025, 1031)).astype(np.float32)
        found = self.describe(values)
        assert found["shape"] == [1025, 1031]
        assert found["dtype"] == "float32"
        assert found["mean"] == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)
        assert found["std"] == pytest.approx(values.std(dtype=np.float64), rel=1e-9)
        assert (found["min"], found["max"]) == (np.min(values), np.max(values))
        assert found["sha256"] == hashlib.sha256(values.tobytes()).hexdigest()

    @pytest.mark.parametrize("values", [np.zeros((0, 3)), np.array([math.nan]), np.array([math.inf, 1.0])])
    def test_figures_that_json_lacks(self, values: Any) -> None:
        """NaN, infinity and nothing at all have no mean."""
        assert self.describe(values)["mean"] is None
        json.dumps(self.describe(values), allow_nan=False)

    def test_other_dtypes(self) -> None:
        """bfloat16, integers, bools and scalars have figures, too."""
        import ml_dtypes

        assert self.describe(np.array([1, 2], ml_dtypes.bfloat16))["mean"] == 1.5
        assert self.describe(np.array(7, np.int64))["max"] == 7.0
        assert self.describe(np.array([True, False]))["mean"] == 0.5


def test_values_become_json() -> None:
    """Whatever a configuration holds has a JSON form."""
    value = {"a": (1, np.float32(0.5)), 2: {3}, "nan": math.inf, "array": np.arange(2), "type": int, "none": None}
    assert to_json(value) == {"a": [1, 0.5], "2": [3], "nan": None, "array": [0, 1], "type": "int", "none": None}

"""What people want of a version afterwards: its proof, its number and its history, and to train on from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.commands import by_command, by_python, succeed
from tests.end_to_end.site import Site
from tests.end_to_end.workflow_models import (
    ARCHITECTURE,
    a_keras,
    compiled,
    features,
    load_module,
    write_module,
)
from tfbundle_exporter import export_model
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path


def test_8_proof(site: Site, tmp_path: Path) -> None:
    """The fixed input gives the same answer before and after, below 1e-6; the figure and the rows are kept with it."""
    x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 32)
    with a_keras("keras"):
        net = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "keras")).build()
        before = np.asarray(net(x, training=False))
    exported = export_model(net, site.models / "proven", example_inputs=x)
    for answer in site.answers("proven", x, version=exported.version):
        assert np.max(np.abs(answer - before)) < 1e-6
    written = json.loads((exported.path / "metadata.json").read_text())
    assert written["parity"]["max_abs_diff"] < 1e-6
    golden = read_golden(golden_path(exported.path))["serving_default"]
    np.testing.assert_array_equal(golden.inputs["features"][0], x[0])
    np.testing.assert_allclose(golden.outputs["probabilities"][0], before[0], atol=1e-7)
    told = succeed(
        *("parity", site.server.grpc_url, "proven", "--also", site.server.rest_url),
        *("--reference", exported.path, "--atol", "1e-6", "--json"),
    )
    assert json.loads(told)["verdict"] == "equal"


def test_9_versions(site: Site, tmp_path: Path) -> None:
    """Each export is a new folder, numbers only go up, a released one stays; what was said of it stands beside it."""
    x, y = features()
    said: dict[str, Any] = {
        "training": {"batch_size": 40, "epochs": 1, "seed": 5},
        "data": {"dataset_id": "features", "split": "train", "preprocessing": "none"},
        "notes": "the first of its kind",
    }
    with a_keras("keras"):
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "keras")).build())
        net.save(tmp_path / "first.keras")
        net.fit(x, y, epochs=1, batch_size=40, verbose=0)
        net.save(tmp_path / "second.keras")
        local = net.predict(x, verbose=0)
    base = site.models / "versioned"
    assert by_python(tmp_path / "first.keras", base) == 1
    released = (base / "1" / "saved_model.pb").stat().st_mtime_ns
    assert by_command(tmp_path / "second.keras", base, metadata=said, tag="1.4.0") == 2
    with pytest.raises(ExportError, match="1"):
        export_model(tmp_path / "second.keras", base, version=1)
    assert (base / "1" / "saved_model.pb").stat().st_mtime_ns == released
    site.expect("versioned", x, local, version=2)

    written = json.loads((base / "2" / "metadata.json").read_text())
    assert (written["model_name"], written["version"], written["tag"]) == ("versioned", 2, "1.4.0")
    assert written["input_signature"] == {"features": {"dtype": "float32", "shape": [None, 32]}}
    assert {name: written["training"][name] for name in said["training"]} == said["training"]
    assert written["training"]["optimizer"]["class_name"] == "Adam"
    assert written["training"]["loss"] == "sparse_categorical_crossentropy"
    assert {name: written[name] for name in ("data", "notes")} == {name: said[name] for name in ("data", "notes")}
    assert {"format", "created_at", "tensorflow_version", "keras_version"} <= written.keys()

    succeed("verify", base / "2")


@pytest.mark.parametrize("keras_name", ["keras", "tf_keras"])
def test_10_training_goes_on(site: Site, tmp_path: Path, keras_name: str) -> None:
    """Two more epochs from the source that a served version kept end with the loss of a training never interrupted."""
    x, y = features()
    with a_keras(keras_name) as keras:
        here = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name))
        net = compiled(keras.Sequential([layer for layer in here.build().layers if "dropout" not in layer.name]))
        net.fit(x, y, epochs=2, shuffle=False, verbose=0)
        net.save(tmp_path / "trained.keras")
        local = net.predict(x, verbose=0)
        uninterrupted = net.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"]
    model = f"resumed_{keras_name}"
    version = by_python(tmp_path / "trained.keras", site.models / model, keep_source=True)
    site.expect(model, x, local, version=version)
    succeed("restore", site.models / model / str(version), tmp_path / "restored.keras")
    assert (tmp_path / "restored.keras").read_bytes() == (tmp_path / "trained.keras").read_bytes()
    with a_keras(keras_name) as keras:
        again = keras.models.load_model(tmp_path / "restored.keras")
        assert again.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"] == uninterrupted

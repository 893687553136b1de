"""What people already do with weights and checkpoints, from the habit to an answer that is proven equal.

Each is made as its users make it. Most are exported by the command line, the others by export_model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.commands import Export, by_command, by_python, fail, succeed
from tests.end_to_end.site import Site
from tests.end_to_end.workflow_models import (
    ARCHITECTURE,
    a_keras,
    compiled,
    features,
    load_module,
    write_module,
)


@pytest.mark.parametrize(
    ("keras_name", "weights", "export"),
    [
        ("tf_keras", "weights_folder/my_weights", by_command),
        ("tf_keras", "my_weights.h5", by_python),
        ("keras", "my_weights.weights.h5", by_python),
    ],
)
def test_3_weights_alone(site: Site, tmp_path: Path, keras_name: str, weights: str, export: Export) -> None:
    """Weights go out with the code that builds their model."""
    x, y = features()
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    with a_keras(keras_name):
        here = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name))
        net = compiled(here.build())
        net.fit(x, y, epochs=1, verbose=0)
        (tmp_path / weights).parent.mkdir(exist_ok=True)
        net.save_weights(str(tmp_path / weights))
        local = net.predict(x, verbose=0)
    model = weights.replace("/", "_").replace(".", "_")
    # A module on the path where the user stands, a file, or the function itself.
    told: dict[str, Any] = {"architecture": f"{code}:build" if keras_name == "tf_keras" else here.build}
    if export is by_command:
        told = {"architecture": "network:build", "folder": tmp_path}
    version = export(tmp_path / weights, site.models / model, **told)
    site.expect(model, x, local, version=version)


def test_3_weights_of_another_architecture(tmp_path: Path) -> None:
    """The error names the layer and both shapes, and no version appears."""
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    with a_keras("tf_keras"):
        load_module(write_module(tmp_path / "here.py", ARCHITECTURE, "tf_keras")).build().save_weights(
            str(tmp_path / "my_weights")
        )
    error = fail("export", tmp_path / "my_weights", tmp_path / "models" / "m", "--architecture", f"{code}:build_wider")
    assert "hidden" in error
    assert "(32, 16)" in error
    assert "(32, 24)" in error
    assert not list((tmp_path / "models").glob("m/[0-9]*"))


@pytest.mark.parametrize(
    ("keras_name", "names", "export"),
    [
        ("tf_keras", "cp-{epoch:04d}.ckpt", by_command),
        ("keras", "cp-{epoch:04d}.weights.h5", by_python),
    ],
)
def test_4_checkpoints_of_a_training(site: Site, tmp_path: Path, keras_name: str, names: str, export: Export) -> None:
    """Of a ModelCheckpoint folder the latest goes out, or the epoch that is asked for."""
    x, y = features()
    folder = tmp_path / "training_checkpoints"
    code = write_module(tmp_path / "network.py", ARCHITECTURE)
    wanted = []
    with a_keras(keras_name) as keras:
        here = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name))
        net = compiled(here.build())
        keep = keras.callbacks.ModelCheckpoint(str(folder / names), save_weights_only=True, save_freq="epoch")
        for epoch in range(4):
            net.fit(x, y, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[keep])
            wanted.append(net.predict(x, verbose=0))
    model = f"checkpoints_{keras_name}"
    latest = export(folder, site.models / model, pick="latest", architecture=f"{code}:build")
    site.expect(model, x, wanted[-1], version=latest)
    third = by_python(folder, site.models / model, pick="epoch=3", architecture=here.build)
    assert third == latest + 1
    site.expect(model, x, wanted[2], version=third)


@pytest.mark.parametrize(
    ("keras_name", "names", "best"),
    [
        # Which number it is does not stand in the name, so that the user says which way is better.
        ("tf_keras", "model-{epoch:02d}-{val_accuracy:.2f}.hdf5", "best:max"),
        ("keras", "model-{epoch:02d}-val_loss-{val_loss:.4f}.keras", "best"),
    ],
)
def test_5_checkpoints_with_the_metric_in_the_name(
    site: Site, tmp_path: Path, keras_name: str, names: str, best: str
) -> None:
    """The best goes out by the number in its file name, the latest by its epoch."""
    x, y = features()
    folder = tmp_path / "results_20240229_1200"
    with a_keras(keras_name) as keras:
        net = compiled(load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build())
        net.optimizer.learning_rate = 0.01
        # Training goes wrong after the second epoch, so that the best is not the latest.
        spoil = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: epoch == 2 and net.set_weights([-30 * each for each in net.get_weights()])
        )
        folder.mkdir()
        keep = keras.callbacks.ModelCheckpoint(str(folder / names), save_best_only=False)
        net.fit(x, y, validation_split=0.5, batch_size=8, epochs=3, verbose=0, callbacks=[spoil, keep])
        files = sorted(folder.iterdir())
        answers = [keras.models.load_model(file, compile=False).predict(x, verbose=0) for file in files]
    assert len(files) == 3
    scores = [float(file.stem.rsplit("-", 1)[1]) for file in files]
    winner = int(np.argmin(scores)) if best == "best" else max(range(3), key=lambda at: (scores[at], at))
    assert winner < 2
    model = f"metrics_{keras_name}"
    base = site.models / model
    site.expect(model, x, answers[winner], version=by_python(folder, base, pick=best))
    site.expect(model, x, answers[2], version=by_python(folder, base, pick="latest"))


@pytest.mark.parametrize(
    ("keras_name", "text", "export"), [("tf_keras", "yaml", by_command), ("keras", "json", by_python)]
)
def test_10_architecture_and_weights_apart(
    site: Site, tmp_path: Path, keras_name: str, text: str, export: Export
) -> None:
    """to_json, or the to_yaml of old, and a weights file go out together; statistics prove that no weight changed."""
    x, _ = features()
    with a_keras(keras_name):
        net = load_module(write_module(tmp_path / "here.py", ARCHITECTURE, keras_name)).build()
        config = net.to_json()
        weights = tmp_path / ("weights.h5" if keras_name == "tf_keras" else "my.weights.h5")
        net.save_weights(str(weights))
        local = net.predict(x, verbose=0)
    (tmp_path / f"architecture.{text}").write_text(config if text == "json" else _old_yaml(json.loads(config)))
    model = f"apart_{keras_name}"
    version = export(weights, site.models / model, architecture=tmp_path / f"architecture.{text}")
    site.expect(model, x, local, version=version)

    # The same statistics, of what is stored before and after; a version holds the seeds of its Dropout layers, too.
    before, after = (
        {weight["sha256"] for weight in json.loads(succeed("inspect", path, "--json"))["weights"].values()}
        for path in (weights, site.models / model / str(version))
    )
    assert len(before) == 4
    assert before <= after


def _old_yaml(value: Any, indent: str = "") -> str:
    """Write YAML as Keras 2.2 did: shapes as Python tuples, each item on a line of its own."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{indent}{key}:\n{_old_yaml(item, indent + '  ')}")
        elif isinstance(item, list) and key == "layers":
            layers = [_old_yaml(layer, indent + "  ") for layer in item]
            lines += [f"{indent}{key}:\n", *(f"{indent}-{layer[len(indent) + 1 :]}" for layer in layers)]
        elif isinstance(item, list) and "shape" in key:
            lines.append(f"{indent}{key}: !!python/tuple [{', '.join(json.dumps(size) for size in item)}]\n")
        else:
            lines.append(f"{indent}{key}: {json.dumps(item)}\n")
    return "".join(lines)

"""Recurrent weights of old get the activation and the layout that they were trained with, or it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows
from tfbundle_exporter.settings import SourceSettings
from tfbundle_exporter.sources.loading import load_model
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

X = rows(6, 3)
UNITS = 4


def layer_model(k: Any, name: str, **options: Any) -> Any:
    """Build a model of one recurrent layer."""
    layer = getattr(k.layers, name)(UNITS, name="cell", **options)
    return k.Sequential([k.layers.Input((6, 3), name="x"), layer])


def draw(shapes: list[tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """Draw weights that are large enough for the activations to matter."""
    generator = np.random.default_rng(5)
    return [generator.normal(size=shape, scale=1.5).astype(np.float32) for shape in shapes]


def backdate(path: Path, version: str) -> Path:
    """Let a file say that an older Keras wrote it."""
    import h5py

    with h5py.File(path, "r+") as file:
        for group in (file, file.get("model_weights", file)):
            group.attrs["keras_version"] = np.bytes_(version.encode())
    return path


def answers(model: Any) -> NDArray[Any]:
    """Ask a model."""
    return np.asarray(model(X, training=False))


@pytest.fixture
def trained(tf_keras: Any) -> Any:
    """An LSTM as Keras 2.2 made it."""
    model = layer_model(tf_keras, "LSTM", recurrent_activation="hard_sigmoid")
    model.set_weights(draw([(3, 16), (4, 16), (16,)]))
    return model


@pytest.fixture
def old(trained: Any, tmp_path: Path) -> Path:
    """Its weights alone."""
    trained.save_weights(tmp_path / "old.h5")
    return backdate(tmp_path / "old.h5", "2.2.0")


def test_the_activation_must_be_stated(old: Path, tf_keras: Any) -> None:
    """Weights from before Keras 2.3 do not load into code that does not say which activation was meant."""
    reading = SourceSettings(architecture=lambda: layer_model(tf_keras, "LSTM"))
    with pytest.raises(ExportError, match=r"Keras 2\.2\.0.*layer 'cell'.*--recurrent-activation sigmoid\|hard_sigmoid"):
        load_model(identify(old), reading)


def test_what_is_stated_is_applied(old: Path, trained: Any, tf_keras: Any) -> None:
    """The statement decides, whatever the code's default is; both answers differ, and ours is the trainer's."""
    loaded = {}
    for activation in ("sigmoid", "hard_sigmoid"):
        reading = SourceSettings(architecture=lambda: layer_model(tf_keras, "LSTM"), recurrent_activation=activation)
        loaded[activation] = answers(load_model(identify(old), reading))
    np.testing.assert_allclose(loaded["hard_sigmoid"], answers(trained), atol=1e-6)
    assert np.max(np.abs(loaded["sigmoid"] - answers(trained))) > 0.01


def test_a_text_that_states_it_is_believed(old: Path, trained: Any) -> None:
    """A JSON architecture with the activation needs no option, and an option that contradicts it is refused."""
    text = trained.to_json()
    np.testing.assert_array_equal(
        answers(load_model(identify(old), SourceSettings(architecture=text))), answers(trained)
    )
    with pytest.raises(ExportError, match=r"layer 'cell' .* hard_sigmoid in the architecture; .* sigmoid contradicts"):
        load_model(identify(old), SourceSettings(architecture=text, recurrent_activation="sigmoid"))


def test_a_text_that_does_not_state_it_is_completed(old: Path, trained: Any) -> None:
    """A silent text asks for the option and then takes it."""
    config = json.loads(trained.to_json())
    del config["config"]["layers"][1]["config"]["recurrent_activation"]
    with pytest.raises(ExportError, match="--recurrent-activation"):
        load_model(identify(old), SourceSettings(architecture=json.dumps(config)))
    reading = SourceSettings(architecture=json.dumps(config), recurrent_activation="hard_sigmoid")
    np.testing.assert_array_equal(answers(load_model(identify(old), reading)), answers(trained))


def test_keras_3_is_refused_for_hard_sigmoid(old: Path, keras: Any) -> None:
    """Keras 3 has another hard_sigmoid, so such weights need a Keras 2 architecture."""
    reading = SourceSettings(architecture=lambda: layer_model(keras, "LSTM"), recurrent_activation="hard_sigmoid")
    with pytest.raises(ExportError, match=r"hard_sigmoid is another function in Keras 3.*tf_keras"):
        load_model(identify(old), reading)


def test_a_full_file_states_it_for_code(trained: Any, tf_keras: Any, tmp_path: Path) -> None:
    """A full model used as weights says itself what its layers were, and code that differs is refused."""
    trained.save(tmp_path / "full.h5")
    artefact = identify(backdate(tmp_path / "full.h5", "2.2.0"))
    with pytest.raises(ExportError, match=r"'cell'.* recurrent activation hard_sigmoid, the architecture has sigmoid"):
        load_model(artefact, SourceSettings(architecture=lambda: layer_model(tf_keras, "LSTM")))
    reading = SourceSettings(architecture=lambda: layer_model(tf_keras, "LSTM", recurrent_activation="hard_sigmoid"))
    np.testing.assert_array_equal(answers(load_model(artefact, reading)), answers(trained))


def test_today_s_weights_need_no_statement(tf_keras: Any, tmp_path: Path) -> None:
    """Since Keras 2.3 the default is what it is, also where a factory builds the model."""
    model = layer_model(tf_keras, "LSTM")
    model.save_weights(tmp_path / "w.h5")
    reading = SourceSettings(architecture=lambda: layer_model(tf_keras, "LSTM"))
    np.testing.assert_array_equal(answers(load_model(identify(tmp_path / "w.h5"), reading)), answers(model))


def test_an_unknown_activation(old: Path, tf_keras: Any) -> None:
    """Only the two defaults can be stated."""
    reading = SourceSettings(architecture=layer_model(tf_keras, "LSTM"), recurrent_activation="tanh")
    with pytest.raises(ExportError, match="expected sigmoid or hard_sigmoid"):
        load_model(identify(old), reading)


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """Compute the logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


def cudnn_kernel(kernel: NDArray[Any], gates: int) -> NDArray[Any]:
    """Lay a kernel out as a cuDNN layer stores it: each gate's matrix transposed, in a buffer of its old shape."""
    return np.concatenate([part.T.reshape(part.shape) for part in np.split(kernel, gates, axis=1)], axis=1)


def lstm(x: NDArray[Any], kernel: Any, recurrent: Any, bias: Any) -> NDArray[Any]:
    """Run an LSTM with two sets of biases, as cuDNN defines it; gates in the order i, f, c, o."""
    h = c = np.zeros((len(x), UNITS))
    for step in range(x.shape[1]):
        z = x[:, step] @ kernel + bias[: 4 * UNITS] + h @ recurrent + bias[4 * UNITS :]
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return h


def gru(x: NDArray[Any], kernel: Any, recurrent: Any, bias: Any) -> NDArray[Any]:
    """Run a GRU as cuDNN defines it: the reset gate after the product, biases on both sides; gates z, r, h."""
    h = np.zeros((len(x), UNITS))
    for step in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, step] @ kernel + bias[: 3 * UNITS], 3, axis=1)
        hz, hr, hh = np.split(h @ recurrent + bias[3 * UNITS :], 3, axis=1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
    return h


CUDNN: dict[str, tuple[int, Callable[..., NDArray[Any]]]] = {"LSTM": (4, lstm), "GRU": (3, gru)}


def write_cudnn(path: Path, name: str, *, full: bool) -> tuple[Path, NDArray[Any]]:
    """Write a file as Keras 2.2 on a GPU did, and compute what the model answers."""
    import h5py

    gates, run = CUDNN[name]
    kernel, recurrent, bias = draw([(3, gates * UNITS), (UNITS, gates * UNITS), (2 * gates * UNITS,)])
    stored = {
        "kernel": cudnn_kernel(kernel, gates),
        "recurrent_kernel": np.concatenate([part.T for part in np.split(recurrent, gates, axis=1)], axis=1),
        "bias": bias,
    }
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if full else file
        for group in (file, root):
            group.attrs["keras_version"] = np.bytes_(b"2.2.4")
            group.attrs["backend"] = np.bytes_(b"tensorflow")
        if full:
            config = {"name": "cell", "trainable": True, "batch_input_shape": [None, 6, 3], "units": UNITS}
            config |= {"return_sequences": False, "go_backwards": False, "stateful": False}
            layers = [{"class_name": f"CuDNN{name}", "config": config}]
            model = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
            file.attrs["model_config"] = np.bytes_(json.dumps(model).encode())
        root.attrs["layer_names"] = [b"cell"]
        names = [f"cell/{leaf}:0" for leaf in stored]
        root.create_group("cell").attrs["weight_names"] = [each.encode() for each in names]
        for each, values in zip(names, stored.values(), strict=True):
            root["cell"].create_dataset(each, data=values)
    return path, run(X.astype(np.float64), kernel, recurrent, bias)


@pytest.mark.parametrize("name", CUDNN)
def test_a_full_cudnn_model(name: str, tmp_path: Path) -> None:
    """A model of cuDNN layers computes on this machine what cuDNN's own formulas say."""
    path, expected = write_cudnn(tmp_path / "gpu.h5", name, full=True)
    model = load_model(identify(path), SourceSettings())
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)


@pytest.mark.parametrize("name", CUDNN)
def test_cudnn_weights_alone(name: str, tmp_path: Path, tf_keras: Any) -> None:
    """Weights of cuDNN layers prove their activation by themselves, though they are from before Keras 2.3."""
    path, expected = write_cudnn(tmp_path / "gpu.h5", name, full=False)
    model = load_model(identify(path), SourceSettings(architecture=lambda: layer_model(tf_keras, name)))
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)
    old_default = SourceSettings(architecture=lambda: layer_model(tf_keras, name, recurrent_activation="hard_sigmoid"))
    np.testing.assert_allclose(answers(load_model(identify(path), old_default)), expected, atol=1e-5)


def test_cudnn_weights_in_keras_3(tmp_path: Path, keras: Any) -> None:
    """Keras 3 does not convert them: the shapes of both sides are told."""
    path, _ = write_cudnn(tmp_path / "gpu.h5", "LSTM", full=False)
    with pytest.raises(ExportError, match=r"layer 'cell', bias: \(32,\) in the file, \(16,\) in the architecture"):
        load_model(identify(path), SourceSettings(architecture=layer_model(keras, "LSTM")))


def test_a_gru_from_before_reset_after(tf_keras: Any, tmp_path: Path) -> None:
    """A full GRU model whose configuration knows no reset_after is one that resets before the product."""
    import h5py

    model = layer_model(tf_keras, "GRU", reset_after=False, recurrent_activation="hard_sigmoid")
    model.set_weights(draw([(3, 12), (4, 12), (12,)]))
    model.save(tmp_path / "gru.h5")
    with h5py.File(tmp_path / "gru.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        del config["config"]["layers"][1]["config"]["reset_after"]
        file.attrs["model_config"] = json.dumps(config)
    loaded = load_model(identify(backdate(tmp_path / "gru.h5", "2.0.8")), SourceSettings())
    np.testing.assert_array_equal(answers(loaded), answers(model))

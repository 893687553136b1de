"""Every way to say what weights belong to: texts of each Keras, old YAML, code, a function, a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.zoo import rows
from tfbundle_exporter.fresh_process import FreshProcess
from tfbundle_exporter.settings import SourceSettings
from tfbundle_exporter.sources.architecture import build, read_architecture
from tfbundle_exporter.sources.architecture_text import parse_text
from tfbundle_exporter.sources.loading import load_model, needs_own_process
from tfbundle_exporter.sources.sniffing import identify
from tfbundle_serving.apis.errors import ExportError

X = rows(3)

#: A model as `to_yaml()` of Keras 2.2 wrote it, shapes and all.
OLD_YAML = """\
backend: tensorflow
class_name: Sequential
config:
  layers:
  - class_name: Dense
    config:
      activation: tanh
      batch_input_shape: !!python/tuple [null, 3]
      dtype: float32
      name: first
      trainable: true
      units: 4
      use_bias: true
  - class_name: Dense
    config: {activation: linear, name: second, trainable: true, units: 2, use_bias: true}
  name: sequential_1
keras_version: 2.2.4
"""


def tiny(k: Any) -> Any:
    """Build the model that OLD_YAML describes."""
    layers = [k.layers.Input((3,)), k.layers.Dense(4, activation="tanh", name="first")]
    return k.Sequential([*layers, k.layers.Dense(2, name="second")])


def answers(model: Any) -> NDArray[Any]:
    """Ask a model."""
    return np.asarray(model(X, training=False))


@pytest.fixture
def weights(k: Any, tmp_path: Path) -> tuple[Path, NDArray[Any]]:
    """Weights of either Keras, in the one format that both write, and the answers that they give."""
    model = tiny(k)
    model.save_weights(tmp_path / "w.weights.h5")
    return tmp_path / "w.weights.h5", answers(model)


def test_texts(k: Any, weights: tuple[Path, NDArray[Any]], tmp_path: Path) -> None:
    """The JSON text of either Keras is taken from a file or as it is, also packed twice or behind a byte order mark."""
    path, expected = weights
    text = tiny(k).to_json()
    (tmp_path / "plain.json").write_text(text)
    (tmp_path / "twice.txt").write_text("\ufeff" + json.dumps(text))
    for given in (text, tmp_path / "plain.json", str(tmp_path / "twice.txt")):
        model = load_model(identify(path), SourceSettings(architecture=given))
        assert isinstance(model, k.Model)
        np.testing.assert_array_equal(answers(model), expected)


def test_another_model_file_as_architecture(k: Any, weights: tuple[Path, NDArray[Any]], tmp_path: Path) -> None:
    """A full model describes the architecture as well as a text does; its own weights are not used."""
    path, expected = weights
    for suffix in (".h5", ".keras"):
        full = tmp_path / f"other{suffix}"
        tiny(k).save(full)
        model = load_model(identify(path), SourceSettings(architecture=full))
        np.testing.assert_array_equal(answers(model), expected)


def test_old_yaml(tf_keras: Any, tmp_path: Path) -> None:
    """The YAML of Keras 2, tuples of Python and all, goes to tf_keras."""
    (tmp_path / "net.yaml").write_text(OLD_YAML)
    model = tiny(tf_keras)
    model.save_weights(tmp_path / "w.h5")
    loaded = load_model(identify(tmp_path / "w.h5"), SourceSettings(architecture=tmp_path / "net.yaml"))
    assert isinstance(loaded, tf_keras.Model)
    np.testing.assert_array_equal(answers(loaded), answers(model))


def test_yaml_runs_nothing(tmp_path: Path) -> None:
    """A tag that would call Python is refused, and what it would call is not."""
    marker = tmp_path / "it_ran"
    for tag in ("object/apply:pathlib.Path.touch", "object:pathlib.Path", "name:os.system", "module:os"):
        text = OLD_YAML.replace("tanh", f"!!python/{tag} [{marker}]")
        with pytest.raises(ExportError, match=r"net\.yaml is refused: could not determine a constructor for the tag"):
            parse_text(text, "net.yaml")
    assert not marker.exists()


def test_yaml_that_expands() -> None:
    """Aliases of aliases are refused before they fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ExportError, match="aliases expand to more than"):
        parse_text("\n".join(lines), "bomb.yaml")


def test_a_list_of_layers(tf_keras: Any) -> None:
    """Keras up to 2.2.2 wrote a Sequential's configuration as a list, and Keras 1 called Conv2D Convolution2D."""
    config = [
        {
            "class_name": "Convolution2D",
            "config": {"filters": 2, "kernel_size": [3, 3], "batch_input_shape": [None, 5, 5, 1]},
        },
        {"class_name": "Flatten", "config": {}},
    ]
    given = SourceSettings(architecture=json.dumps({"class_name": "Sequential", "config": config}))
    model = build(read_architecture(given), given)
    assert isinstance(model, tf_keras.Model)
    assert model.output_shape == (None, 18)


def test_a_loss_of_the_user_s_own_does_not_matter(keras: Any) -> None:
    """How a model was compiled is not rebuilt, so what that needs need not be known."""

    def my_loss(y: Any, p: Any) -> Any:
        return y - p

    model = tiny(keras)
    model.compile("adam", my_loss)
    given = SourceSettings(architecture=model.to_json())
    assert getattr(build(read_architecture(given), given), "optimizer", None) is None


BAD_TEXTS = {
    "{": "is not the JSON text of an architecture",
    "a: [": "is not the JSON or YAML text of an architecture",
    "just words": "describes no model: expected an object with class_name and config",
    "[1, 2]": "describes no model",
    '{"class_name": "Sequential"}': "describes no model",
}


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_texts(text: str, tmp_path: Path) -> None:
    """What is no architecture is told so, by name of the file."""
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(ExportError, match=rf"net\.json {BAD_TEXTS[text]}"):
        read_architecture(SourceSettings(architecture=path))


def test_bad_files(tmp_path: Path) -> None:
    """A missing file, a folder, a binary and bare code are each told apart."""
    (tmp_path / "net.bin").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "net.py").write_text("")
    cases = {"none.json": "there is no file", ".": "is a folder", "net.bin": "is no text", "net.py": r"net\.py:build"}
    for name, message in cases.items():
        with pytest.raises(ExportError, match=message):
            read_architecture(SourceSettings(architecture=tmp_path / name))
    with pytest.raises(ExportError, match=r"a function or a model; got a int"):
        read_architecture(SourceSettings(architecture=3))


def test_code_in_a_text_is_refused(k: Any) -> None:
    """A Lambda or a foreign module in a text is refused before anything is built, unless it is allowed."""
    layers = [k.layers.Input((3,)), k.layers.Lambda(lambda x: x * 2, output_shape=(3,), name="twice")]
    text = k.Sequential(layers).to_json()
    with pytest.raises(ExportError, match=r"refused before building: layer 'twice' is a Lambda.*--allow-unsafe"):
        read_architecture(SourceSettings(architecture=text))
    allowed = SourceSettings(architecture=text, allow_unsafe=True)
    np.testing.assert_array_equal(answers(build(read_architecture(allowed), allowed)), 2 * X)


def test_contradictions(k: Any, weights: tuple[Path, NDArray[Any]]) -> None:
    """--keras must agree with a text and with a model, and is no reason to load a file with the wrong Keras."""
    mine, wrong = ("3", "2") if k.__name__ == "keras" else ("2", "3")
    for given in (tiny(k), tiny(k).to_json(), lambda: tiny(k)):
        load_model(identify(weights[0]), SourceSettings(architecture=given, keras=mine))  # type: ignore[arg-type]
        with pytest.raises(ExportError, match=rf"Keras {mine}.*--keras {wrong}"):
            load_model(identify(weights[0]), SourceSettings(architecture=given, keras=wrong))  # type: ignore[arg-type]
    tiny(k).save(weights[0].with_name("full.h5"))
    with pytest.raises(ExportError, match=rf"needs Keras {mine}; --keras {wrong}"):
        load_model(identify(weights[0].with_name("full.h5")), SourceSettings(keras=wrong))  # type: ignore[arg-type]


CODE = """
import helper_of_net

def build(units=4):
    return helper_of_net.make(units)

def needs(units, *more):
    return build(units)

def fails():
    raise RuntimeError("no such dataset:\\n  /data")

def pair():
    return build(), 1

def nothing():
    pass

model = build()
number = 3
"""
HELPER = """
import tensorflow as tf

def make(units):
    layers = tf.keras.layers
    first = layers.Dense(units, activation="tanh", name="first")
    return tf.keras.Sequential([layers.Input((3,)), first, layers.Dense(2, name="second")])
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a user's module and its neighbour into a folder of their own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "net_of_user.py").write_text(CODE)
    (folder / "helper_of_net.py").write_text(HELPER)
    return folder


def load_and_ask(path: Path, architecture: str) -> tuple[str, NDArray[Any]]:
    """Load weights in this process; run in a fresh one."""
    model = load_model(identify(path), SourceSettings(architecture=architecture))
    return type(model).__module__.partition(".")[0], answers(model)


def test_a_factory_follows_the_weights(k: Any, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory written with tf.keras builds, in a process of its own, the Keras that the weights are of."""
    monkeypatch.chdir(code)
    given = {"keras": f"{code}/net_of_user.py:build", "tf_keras": "net_of_user:build"}[k.__name__]
    model = tiny(k)
    model.save(tmp_path / "full.h5")
    artefact = identify(tmp_path / "full.h5")
    environment = needs_own_process(artefact, SourceSettings(architecture=given))
    legacy = {"keras": "0", "tf_keras": "1"}[k.__name__]
    assert environment == {"TF_USE_LEGACY_KERAS": legacy, "KERAS_BACKEND": "tensorflow"}
    with FreshProcess("loading", environment=environment, preload=("tensorflow",), is_usual=True) as process:
        family, found = process.run(run_load_and_ask, str(Path(__file__)), tmp_path / "full.h5", given)
    assert family == k.__name__
    np.testing.assert_allclose(found, answers(model), atol=1e-6)


def test_which_keras_code_gets(k: Any, weights: tuple[Path, NDArray[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """--keras decides, then what the weights record, then the user's own environment; texts need no process."""

    def legacy(**options: Any) -> str:
        found = needs_own_process(identify(weights[0]), SourceSettings(architecture="net:build", **options))
        assert found is not None
        return found["TF_USE_LEGACY_KERAS"]

    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    assert (legacy(keras="2"), legacy(keras="3")) == ("1", "0")
    assert legacy() == "0"
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert legacy() == ("0" if k.__name__ == "keras" else "1"), "Keras 3 leaves its mark in the file, Keras 2 none"
    assert needs_own_process(identify(weights[0]), SourceSettings(architecture=tiny(k).to_json())) is None
    assert needs_own_process(None, SourceSettings()) is None
    assert needs_own_process(None, SourceSettings(modules=("net",))) is not None


BAD_CODE = {
    "net_of_user.py:needs": r"needs arguments \(units\); give a function that takes none",
    "net_of_user.py:fails": r"fails: RuntimeError: no such dataset: /data \(net_of_user\.py, line 11\)",
    "net_of_user.py:pair": "gives a tuple with a model in it; expected a Keras model",
    "net_of_user.py:nothing": "gives None; expected a Keras model",
    "net_of_user.py:number": "is a int; expected a function",
    "net_of_user.py:bulid": "holds no 'bulid'; did you mean 'build'",
    "nowhere.py:build": "there is no file",
    "broken.py:build": r"fails on import: SyntaxError: .*broken\.py",
    "needy.py:build": "needy.py imports 'not_installed_here', which is not installed here",
    "exits.py:build": "fails on import: SystemExit: 2",
}


@pytest.mark.parametrize("given", BAD_CODE)
@pytest.mark.usefixtures("keras")
def test_bad_code(given: str, code: Path) -> None:
    """Whatever is wrong with a factory is told in a line, with the place where it failed."""
    (code / "broken.py").write_text("def build(:\n")
    (code / "needy.py").write_text("import not_installed_here\n")
    (code / "exits.py").write_text("import sys\nsys.exit(2)\n")
    reading = SourceSettings(architecture=f"{code}/{given}")
    with pytest.raises(ExportError, match=rf"--architecture.*{BAD_CODE[given]}") as caught:
        build(read_architecture(reading), reading)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_missing(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is not there is told apart from one that it would import."""
    monkeypatch.chdir(code)
    with pytest.raises(ExportError, match=r"there is no module 'no_net'.*looked for in .*code"):
        read_architecture(SourceSettings(architecture="no_net:build"))
    with pytest.raises(ExportError, match=r"there is no module 'net_of_user\.deep'|there is no module"):
        read_architecture(SourceSettings(architecture="net_of_user.deep:build"))
    (code / "lacking.py").write_text("import not_installed_here\n")
    with pytest.raises(ExportError, match="lacking imports 'not_installed_here'"):
        read_architecture(SourceSettings(architecture="lacking:build"))


def test_a_model_in_a_module(code: Path) -> None:
    """A module may hold the model itself."""
    reading = SourceSettings(architecture=f"{code}/net_of_user.py:model")
    assert answers(build(read_architecture(reading), reading)).shape == (5, 2)


def run_load_and_ask(file: str, path: Path, architecture: str) -> Any:
    """Find this file again where the tests are no package."""
    import runpy

    return runpy.run_path(file)["load_and_ask"](path, architecture)

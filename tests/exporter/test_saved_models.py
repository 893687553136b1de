"""SavedModels of every writer become SourceModels, and can be kept byte for byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.exporter.wrapping import ask, wrap
from tests.exporter.zoo import many, rows, texts, vocabulary_file
from tfbundle_exporter.folder.kept_saved_model import keep_saved_model
from tfbundle_exporter.models.live import adapt
from tfbundle_exporter.models.saved_model import open_saved_model, read_calls
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD

v1 = tf.compat.v1
WORDS = np.array([b"a", b"?", b"b"], object)


@pytest.fixture(scope="module")
def tf1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a TensorFlow 1 SavedModel: a table from a file, a default, an unused variable, names of every kind."""
    folder = tmp_path_factory.mktemp("tf1")
    (folder / "words.txt").write_text("a\t0\nb\t1\n")
    builder = v1.saved_model.Builder(str(folder / "m"))
    info = v1.saved_model.build_tensor_info
    with tf.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.string, [None], name="words")
        keep = v1.placeholder_with_default(1.0, (), name="keep")
        file = tf.lookup.TextFileInitializer(str(folder / "words.txt"), tf.string, 0, tf.int64, 1)
        table = tf.lookup.StaticHashTable(file, -1)
        weight = v1.get_variable("layer/w", initializer=tf.constant([1.0, 2.0, 3.0]))
        v1.get_variable("unused", initializer=tf.constant([1.0]))
        scores = tf.gather(weight, table.lookup(words) + 1) * keep
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        signature = v1.saved_model.build_signature_def
        signatures = {
            "serving_default": signature({"my-words": info(words)}, {"score.y": info(scores)}, CLASSIFY_METHOD),
            "regress": signature({"self": info(words), "keep": info(keep)}, {"scores": info(scores)}, REGRESS_METHOD),
        }
        assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=v1.tables_initializer(), assets_collection=assets
        )
        builder.add_meta_graph(["serve", "tpu"], {})
        builder.save()
    return folder / "m"


def test_a_model_of_tensorflow_1(tf1: Path, tmp_path: Path) -> None:
    """Tables are filled from their assets, defaults stand in, method names and names stay; so after wrapping."""
    model = open_saved_model(tf1)
    assert {name: str(spec) for name, spec in model.main.inputs.items()} == {"my-words": "string (?,)"}
    assert (model.main.output_names, model.main.method_name) == (("score.y",), CLASSIFY_METHOD)
    assert {name: (tuple(call.inputs), call.method_name) for name, call in model.others.items()} == {
        "regress": (("keep", "self"), REGRESS_METHOD)
    }
    assert list(model.weights) == ["layer/w", "unused"]
    (eager,) = model.others["regress"].call([tf.constant(2.0), tf.constant(WORDS)])
    np.testing.assert_array_equal(eager, [4.0, 2.0, 6.0])
    wrap(model, tmp_path / "m")
    moved = Path(shutil.move(tmp_path / "m", tmp_path / "moved"))
    assert [path.name for path in (moved / "assets").iterdir()] == ["words.txt"]
    again = open_saved_model(moved)
    np.testing.assert_array_equal(again.main.call([tf.constant(WORDS)])[0], [2.0, 1.0, 3.0])
    assert again.main.method_name == CLASSIFY_METHOD


def test_tags_are_told_apart(tf1: Path) -> None:
    """Of several meta graphs the one tagged serve is meant; one that is not there is named with those that are."""
    with pytest.raises(ExportError, match=r"no model with the tags \{gpu, serve\}.*it holds \{serve\}, \{serve, tpu\}"):
        open_saved_model(tf1, tags=("serve", "gpu"))


def test_what_keras_2_saved(tf_keras: Any, tmp_path: Path) -> None:
    """model.save of Keras 2 keeps its names; wrapped, it answers with the same bits."""
    specimen = many(tf_keras)
    specimen.model.save(tmp_path / "saved", save_format="tf")
    model = open_saved_model(tmp_path / "saved")
    assert (model.family, tuple(model.main.inputs)) == ("tensorflow", ("left", "right"))
    assert sorted(model.main.output_names) == ["p", "q"]
    assert {"p/kernel", "q/bias"} < set(model.weights)
    served = ask(wrap(model, tmp_path / "m"), [specimen.inputs["left"], specimen.inputs["right"]])
    for name, expected in zip(specimen.outputs, specimen.answers(), strict=True):
        np.testing.assert_array_equal(served[name], expected)


def test_what_keras_3_exported(keras: Any, tmp_path: Path) -> None:
    """The second copy of the one signature is left out of a wrapped model, and listed for a kept one."""
    specimen = texts(keras)
    specimen.model.export(tmp_path / "saved", verbose=False)
    model = open_saved_model(tmp_path / "saved")
    assert not model.others
    assert list(read_calls(model, tmp_path / "saved")) == ["serving_default", "serve"]
    served = ask(wrap(model, tmp_path / "m"), [specimen.inputs["text"]])
    np.testing.assert_array_equal(served["output_0"], specimen.answers()[0])


def test_a_model_saved_without_signatures(tmp_path: Path) -> None:
    """Functions that were traced before saving stand in; the trace for training is not the one."""

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(2.0)

        @tf.function(autograph=False)
        def __call__(self, x: Any, training: bool = False) -> Any:
            return {"y": x * self.w + (100.0 if training else 0.0)}

        # Were it the only one with an input_signature, TensorFlow would make a signature of it.
        @tf.function(autograph=False)
        def shout(self, text: Any) -> Any:
            return tf.strings.upper(text)

    module = Module()
    x = rows(3)
    for training in (True, False):
        module(tf.constant(x), training)
    module.shout(tf.constant(["a"]))
    tf.saved_model.save(module, str(tmp_path / "saved"))
    model = open_saved_model(tmp_path / "saved")
    assert (tuple(model.main.inputs), model.main.output_names) == (("x",), ("y",))
    loaded = wrap(model, tmp_path / "m")
    np.testing.assert_array_equal(ask(loaded, [x])["y"], 2 * x)
    np.testing.assert_array_equal(ask(loaded, [[b"a"]], "shout")["output_0"], [b"A"])
    assert read_calls(model, tmp_path / "saved") == {}
    assert adapt(tf.saved_model.load(str(tmp_path / "saved"))).main.output_names == ("y",)


def test_a_model_without_a_default_signature(tmp_path: Path) -> None:
    """The signature that looks like the main one is taken, and stays under its own name besides."""
    module = tf.Module()
    one, two = (
        tf.function(lambda x, by=by: x * by, input_signature=[tf.TensorSpec([None])], autograph=False) for by in (1, 2)
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"other": two, "predict": one})
    model = open_saved_model(tmp_path / "m")
    assert set(model.others) == {"other", "predict"}
    np.testing.assert_array_equal(model.main.call([tf.constant([3.0])])[0], [3.0])


def test_nothing_to_serve(tmp_path: Path) -> None:
    """A folder of variables, a damaged one and one that is none are told from each other."""
    module = tf.Module()
    module.w = tf.Variable(2.0)
    tf.saved_model.save(module, str(tmp_path / "bare"))
    with pytest.raises(ExportError, match=r"has no signature and no function that was traced"):
        open_saved_model(tmp_path / "bare")
    (tmp_path / "bare/variables/variables.index").unlink()
    with pytest.raises(ExportError, match=r"bare cannot be loaded as a SavedModel: "):
        open_saved_model(tmp_path / "bare")
    (tmp_path / "bare/saved_model.pb").write_bytes(b"\xff" * 20)
    with pytest.raises(ExportError, match=r"saved_model\.pb is not a SavedModel"):
        open_saved_model(tmp_path / "bare")


def test_unknown_rank(tmp_path: Path) -> None:
    """An input of any rank is described as such and goes through."""
    function = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec(None)], autograph=False)
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"), signatures=function)
    model = open_saved_model(tmp_path / "saved")
    assert [spec.shape for spec in model.main.inputs.values()] == [None]
    np.testing.assert_array_equal(ask(wrap(model, tmp_path / "m"), [[[1.0]]])["y"], [[2.0]])


def files(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kept_model_is_the_same_to_the_byte(keras: Any, tmp_path: Path) -> None:
    """Assets, warm-up and stray files come along; what an earlier export wrote of itself does not."""
    specimen = vocabulary_file(keras, tmp_path)
    specimen.model.export(tmp_path / "saved", verbose=False)
    saved = tmp_path / "saved"
    extra = {
        "assets.extra/tf_serving_warmup_requests": b"warm",
        "keras_metadata.pb": b"old",
        "batching_params.pbtxt": b"",
        "assets.extra/source/model.keras": b"source",
    }
    ours = {"metadata.json": b"{}", "assets.extra/golden.npz": b"gold"}
    (saved / "assets.extra/source").mkdir(parents=True)
    for name, content in (extra | ours).items():
        (saved / name).write_bytes(content)
    before = files(saved)
    keep_saved_model(saved, tmp_path / "kept")
    assert files(tmp_path / "kept") == {name: content for name, content in before.items() if name not in ours}
    assert extra.keys() < files(tmp_path / "kept").keys()
    assert (tmp_path / "kept/assets").is_dir()
    np.testing.assert_array_equal(
        open_saved_model(tmp_path / "kept").main.call([tf.constant(specimen.inputs["colour"])])[0],
        specimen.answers()[0],
    )


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hosts"), os.mkfifo], ids=["link", "pipe"])
def test_a_link_is_not_kept(make: Any, tmp_path: Path) -> None:
    """A version holds what it serves: links and the like are refused by name, and nothing is copied."""
    (tmp_path / "saved/assets").mkdir(parents=True)
    (tmp_path / "saved/saved_model.pb").write_bytes(b"x")
    make(tmp_path / "saved/assets/words.txt")
    with pytest.raises(ExportError, match=r"assets/words\.txt is (a symbolic link|no ordinary file)"):
        keep_saved_model(tmp_path / "saved", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()

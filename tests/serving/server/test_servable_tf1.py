"""SavedModels of TensorFlow 1: several signatures, tables that are filled from assets, every kind of init op."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfbundle_serving.apis.errors import NotFound, Unimplemented
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, PREDICT_METHOD
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.settings import LoadSettings

v1 = tf.compat.v1
MAIN_OP, LEGACY_OP = "saved_model_main_op", "legacy_init_op"


def save_vocabulary(folder: Path, *, init_op: str, tags: list[str]) -> Path:
    """Save `serving_default` (word to its line in a vocabulary, plus a variable), and `classify` on examples."""
    vocabulary = folder.with_suffix(".txt")
    vocabulary.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("zero\none\ntwo\n")
    with tf.Graph().as_default(), v1.Session() as session:
        asset = tf.constant(str(vocabulary))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        table = v1.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            -1,
        )
        words = v1.placeholder(tf.string, [None], "words")
        offset = v1.get_variable("offset", initializer=np.int64(100), use_resource=False)
        lines = table.lookup(words) + offset
        serialized = v1.placeholder(tf.string, [None], "serialized")
        scores = v1.io.parse_example(serialized, {"x": v1.io.FixedLenFeature([2], tf.float32)})["x"]
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            tags,
            signature_def_map={
                "serving_default": v1.saved_model.predict_signature_def({"words": words}, {"lines": lines}),
                "classify": v1.saved_model.classification_signature_def(serialized, None, scores),
            },
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(name="fill"),
        )
        builder.save()
    if init_op == LEGACY_OP:
        # TensorFlow reads these still, and writes them no more.
        path = folder / "saved_model.pb"
        saved: Any = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        collections = saved.meta_graphs[0].collection_def
        collections[LEGACY_OP].CopyFrom(collections[MAIN_OP])
        del collections[MAIN_OP]
        path.write_bytes(saved.SerializeToString())
    vocabulary.unlink()
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("init_op", [MAIN_OP, LEGACY_OP])
def test_tables_and_variables_are_there(tmp_path: Path, init_op: str) -> None:
    """The vocabulary is read from the version's own assets, and the signatures have their methods."""
    folder = save_vocabulary(tmp_path / "1", init_op=init_op, tags=["serve"])
    servable = Servable(folder.rename(tmp_path / "2"), LoadSettings())
    words = np.array([b"two", b"zero", b"none"], object)
    assert servable.run("serving_default", {"words": words}, ("lines",))["lines"].tolist() == [102, 100, 99]
    methods = {name: each.method_name for name, each in servable.signatures.items()}
    assert methods == {"serving_default": PREDICT_METHOD, "classify": CLASSIFY_METHOD}
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([0.25, 0.75])
    inputs = {"inputs": np.array([example.SerializeToString()], object)}
    assert servable.run("classify", inputs, ("scores",))["scores"].tolist() == [[0.25, 0.75]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_missing_asset(tmp_path: Path) -> None:
    """An init op that fails fails the load, with what the C++ server would say and nothing of Python's."""
    folder = save_vocabulary(tmp_path / "1", init_op=MAIN_OP, tags=["serve"])
    (folder / "assets/1.txt").unlink()
    with pytest.raises(NotFound) as caught:
        Servable(folder, LoadSettings())
    assert caught.value.message.startswith(f"{folder}/assets/1.txt; No such file or directory\n\t [[{{{{node ")


def test_tags(tmp_path: Path) -> None:
    """The meta graph with exactly the wanted tags is loaded; none is TensorFlow's own sentence."""
    folder = save_vocabulary(tmp_path / "1", init_op=MAIN_OP, tags=["serve", "gpu"])
    Servable(folder, LoadSettings(tags=frozenset({"gpu", "serve"}))).close()
    with pytest.raises(NotFound) as caught:
        Servable(folder, LoadSettings())
    assert caught.value.message.startswith(
        "Could not find meta graph def matching supplied tags: { serve }. To inspect available tag-sets in the "
        "SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )
    assert "{ gpu serve }" in caught.value.message


def test_exports_from_before_saved_models(tmp_path: Path) -> None:
    """A session bundle is told apart from a folder that holds nothing."""
    (tmp_path / "export.meta").touch()
    with pytest.raises(Unimplemented, match=r"^Session Bundle is deprecated and removed\.$"):
        Servable(tmp_path, LoadSettings())

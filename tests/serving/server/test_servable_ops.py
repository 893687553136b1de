"""Operations from packages besides TensorFlow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import requests
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.servers import running_server
from tfbundle_serving.apis.errors import NotFound
from tfbundle_serving.server.servable import Servable
from tfbundle_serving.server.servable_ops import missing_operation, register_operation
from tfbundle_serving.server.settings import LoadSettings


def save_foreign(folder: Path, operation: str) -> Path:
    """Save a model in whose graph an operation bears a foreign name; nothing registers it in this process."""
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": tf.sinh(x)}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")], autograph=False
    )
    tf.saved_model.save(module, str(folder), signatures=module.f)
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in saved.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Sinh":
                node.op = operation
    path.write_bytes(saved.SerializeToString())
    return folder


@pytest.mark.parametrize(
    ("operation", "package"),
    [
        ("TFText>NoSuchOperation", "tensorflow-text"),
        ("SimpleMLNoSuchOperation", "ydf-tf"),
        ("Nobodys", "neither TensorFlow nor a package"),
    ],
)
def test_the_package_is_named(operation: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that needs operations of a package which is not there is refused in one line that names it."""
    for module in ("tensorflow_text", "ydf_tf", "ydf_tf.op", "tensorflow_decision_forests"):
        monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that a module is not there
    with pytest.raises(NotFound) as caught:
        Servable(save_foreign(tmp_path / "1", operation), LoadSettings())
    assert caught.value.message.startswith(f"Op type not registered '{operation}': ")
    assert package in caught.value.message
    assert "\n" not in caught.value.message


def test_a_package_is_imported_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first package that is there and works is imported; one built for another TensorFlow is passed over."""
    broken = tmp_path / "ydf_tf"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "op.py").write_text("raise RuntimeError('undefined symbol\\nmore')")
    for name in ("ydf_tf", "ydf_tf.op"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in ("tensorflow_decision_forests",):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotFound, match=r"ydf_tf is installed but does not work: undefined symbol$"):
        register_operation("SimpleMLInferenceOp")
    (broken / "op.py").write_text("")
    register_operation("SimpleMLInferenceOp")
    assert "ydf_tf.op" in sys.modules


def test_other_errors_name_no_operation() -> None:
    """Only TensorFlow's sentence about operations counts."""
    assert missing_operation("Op type not registered 'TFText>X' in binary running on vm.") == "TFText>X"
    assert missing_operation("NOT_FOUND: no checkpoint") == ""


def test_tf_text(tmp_path: Path) -> None:
    """Where TF Text is installed, a server that has not imported it serves a model with its tokenizer."""
    text = pytest.importorskip("tensorflow_text")
    module = tf.Module()
    module.f = tf.function(
        lambda words: {"words": text.WhitespaceTokenizer().tokenize(words).to_tensor(b"")},
        input_signature=[tf.TensorSpec([None], tf.string, name="words")],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures=module.f)
    with running_server("--model_name=m", f"--model_base_path={tmp_path / 'm'}") as server:
        reply = requests.post(f"{server.rest_url}/v1/models/m:predict", json={"instances": ["a b", "c"]}, timeout=60)
    assert reply.json() == {"predictions": [["a", "b"], ["c", ""]]}

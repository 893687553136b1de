"""Signatures read from saved_model.pb without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.models import save_half_plus
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.saved_model_pb import read_meta_graphs
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE, PREDICT_METHOD, encode_signature


def test_a_real_saved_model_is_read(tmp_path: Path) -> None:
    """Tags, TensorFlow version and signatures of a SavedModel are what the official class reads from it."""
    save_half_plus(tmp_path)
    (graph,) = read_meta_graphs(tmp_path / "saved_model.pb")
    message = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    official = message.meta_graphs[0]
    assert graph.tags == {"serve"}
    assert graph.tensorflow_version == tf.__version__
    assert graph.signatures.keys() == set(official.signature_def) == {"serving_default", INIT_OP_SIGNATURE}
    for name, signature in graph.signatures.items():
        mine = type(official.signature_def[name]).FromString(encode_signature(signature))
        assert mine == official.signature_def[name]
    signature = graph.signatures["serving_default"]
    assert signature.method_name == PREDICT_METHOD
    assert signature.inputs["x"].dtype is dtypes.FLOAT
    assert signature.inputs["x"].shape == (None,)


def test_several_meta_graphs_are_told_apart(tmp_path: Path) -> None:
    """Each meta graph keeps its own tags."""
    message = saved_model_pb2.SavedModel()
    for tags in (["serve"], ["serve", "gpu"]):
        message.meta_graphs.add().meta_info_def.tags.extend(tags)
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    graphs = read_meta_graphs(tmp_path / "saved_model.pb")
    assert [graph.tags for graph in graphs] == [{"serve"}, {"serve", "gpu"}]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" * 20, "is not a SavedModel"),
        (saved_model_pb2.SavedModel(saved_model_schema_version=1).SerializeToString(), "holds no meta graph"),
        (b"\x12\xff\xff\xff\x7f", "claims"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    """A file that is no SavedModel is refused by name."""
    path = tmp_path / "saved_model.pb"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=text) as caught:
        read_meta_graphs(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """What is not there is reported as the system reports it."""
    with pytest.raises(FileNotFoundError):
        read_meta_graphs(tmp_path / "saved_model.pb")

"""Signatures that take serialized tf.Example, against the plain one on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.small_source import Arrays, Version, source, spec
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.classify_regress import Classify, Regress
from tfbundle_exporter.signatures.example import Example
from tfbundle_exporter.signatures.tf_example import encode_examples
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.version_folder import SAVED_MODEL

INPUTS = {
    "x": spec("float32", 2, 3),
    "wide": spec("float64"),
    "half": spec("float16", 2),
    "brain": spec("bfloat16", 2),
    "count": spec("int32", 2),
    "flag": spec("bool"),
    "level": spec("uint8", 1),
    "text": spec("string", 2),
}
ROWS: Arrays = {
    "x": np.random.default_rng(0).normal(size=(4, 2, 3)).astype("f4"),
    "wide": np.array([0.5, -1, 2, 1e3]),
    "half": np.array([[1, 2], [3, 4], [0.5, 0], [-1, 1]], "f2"),
    "brain": np.array([[1, 2], [3, 4], [0.5, 0], [-1, 1]], INPUTS["brain"].dtype.to_numpy()),
    "count": np.array([[1, -2], [3, 4], [2**31 - 1, 0], [5, 6]], "i4"),
    "flag": np.array([True, False, True, False]),
    "level": np.array([[0], [255], [7], [8]], "u1"),
    "text": np.array([[b"a", b""], [b"\xff\0", b"b"], [b"c", b"d"], [b"e", "é".encode()]], object),
}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A model that gives its inputs back, one of each dtype."""
    import tensorflow as tf

    model = source(INPUTS, tuple(f"{name}_again" for name in INPUTS), lambda *tensors: list(map(tf.identity, tensors)))
    return Version(tmp_path_factory.mktemp("example") / "1", model, SignatureSettings(ready=(Example(),)))


def test_every_dtype_survives(version: Version) -> None:
    """An input of each dtype reaches the model as if it had been sent as a tensor."""
    plain = version.ask("serving_default", ROWS)
    parsed = version.ask("example", version.examples("example", ROWS))
    assert plain.keys() == parsed.keys()
    for name, expected in plain.items():
        np.testing.assert_array_equal(parsed[name], expected)
        assert parsed[name].dtype == expected.dtype


def test_examples_of_others(version: Version) -> None:
    """A tf.Example that somebody else wrote, features in any order and more of them than asked for, is parsed."""
    import tensorflow as tf

    example = tf.train.Example()
    example.ParseFromString(version.examples("example", ROWS)["examples"][0])
    example.features.feature["unknown"].int64_list.value.append(1)
    parsed = version.ask("example", {"examples": np.array([example.SerializeToString()], object)})
    np.testing.assert_array_equal(parsed["x_again"][0], ROWS["x"][0])


def test_a_missing_feature_is_named(version: Version) -> None:
    """An example without a feature is an invalid argument that names it."""
    import tensorflow as tf

    example = tf.train.Example()
    example.ParseFromString(version.examples("example", ROWS)["examples"][0])
    del example.features.feature["count"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: count"):
        version.ask("example", {"examples": np.array([example.SerializeToString()], object)})


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A model on sequences of any length."""
    import tensorflow as tf

    model = source({"steps": spec("float32", None, 2)}, ("sum",), lambda steps: tf.reduce_sum(steps, 1))
    return Version(tmp_path_factory.mktemp("steps") / "1", model, SignatureSettings(ready=(Example(),)))


@pytest.mark.parametrize("length", [0, 1, 5])
def test_sequences_of_any_length(steps: Version, length: int) -> None:
    """The first axis of a row may be of any size, also none."""
    rows = np.random.default_rng(0).normal(size=(3, length, 2)).astype("f4")
    parsed = steps.ask("example", steps.examples("example", {"steps": rows}))["sum"]
    np.testing.assert_array_equal(parsed, steps.ask("serving_default", {"steps": rows})["sum"])


def test_sequences_are_not_padded(steps: Version) -> None:
    """Rows of different lengths are refused, since padding would let a row's answer depend on its neighbours."""
    import tensorflow as tf

    short, long = (steps.examples("example", {"steps": np.ones((1, length, 2), "f4")})["examples"] for length in (2, 3))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="feature steps: the examples of one request must have the same"
    ):
        steps.ask("example", {"examples": np.concatenate([short, long])})


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": spec("float32", None, None)}, "input 'x' is float32 (?, ?, ?); a feature of tf.Example is a flat list"),
        ({"x": spec("complex64", 2)}, "tf.Example cannot hold that dtype"),
    ],
)
def test_inputs_that_are_no_feature(inputs: Any, expected: str) -> None:
    """An input that no feature can hold is named."""
    with pytest.raises(ExportError) as caught:
        build_endpoints(source(inputs, ("y",), lambda x: x), SignatureSettings(ready=(Example(),)))
    assert expected in str(caught.value)


WEIGHTS = np.array([[1, -1, 0.5], [0.25, 2, -3]], "f4")


def score(x: Any) -> list[Any]:
    """Give scores of three classes, the first one as one number a row, and another in half precision."""
    import tensorflow as tf

    scores = tf.matmul(x, WEIGHTS)
    return [scores, scores[:, 0], tf.cast(scores[:, :1], tf.bfloat16)]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A model with Classify and Regress signatures."""
    ready = (
        Classify(scores="scores"),
        Classify(signature="named", scores="scores", labels=["red", "grün", "blue"]),
        Classify(signature="binary", scores="first"),
        Regress(output="first"),
        Regress(signature="column", output="narrow"),
    )
    model = source({"x": spec("float32", 2)}, ("scores", "first", "narrow"), score)
    return Version(tmp_path_factory.mktemp("judged") / "1", model, SignatureSettings(ready=ready))


X: NDArray[Any] = np.random.default_rng(3).normal(size=(4, 2)).astype("f4")


def test_classify(judged: Version) -> None:
    """Exactly `classes` and `scores`, both (n, k), labelled or numbered, as Classify calls want them."""
    plain = judged.ask("serving_default", {"x": X})
    for name, labels in {"classify": [b"0", b"1", b"2"], "named": [b"red", "grün".encode(), b"blue"]}.items():
        answer = judged.ask(name, judged.examples(name, {"x": X}))
        assert answer.keys() == {"classes", "scores"}
        np.testing.assert_array_equal(answer["scores"], plain["scores"])
        assert answer["classes"].tolist() == [labels] * 4
    binary = judged.ask("binary", judged.examples("binary", {"x": X}))
    np.testing.assert_array_equal(binary["scores"], plain["first"][:, None])


def test_regress(judged: Version) -> None:
    """Exactly `outputs` (n,) float32, also from an output with an axis of one or of another dtype."""
    plain = judged.ask("serving_default", {"x": X})
    answer = judged.ask("regress", judged.examples("regress", {"x": X}))
    assert answer.keys() == {"outputs"}
    np.testing.assert_array_equal(answer["outputs"], plain["first"])
    column = judged.ask("column", judged.examples("column", {"x": X}))["outputs"]
    assert (column.dtype.name, column.shape) == ("float32", (4,))
    np.testing.assert_array_equal(column, plain["narrow"].astype("f4")[:, 0])


def test_method_names(judged: Version) -> None:
    """The SavedModel says which calls the signatures are for, and its fingerprint is the one of what it says."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model import fingerprinting_utils

    saved = saved_model_pb2.SavedModel.FromString((judged.folder / SAVED_MODEL).read_bytes())
    methods = {name: each.method_name.rpartition("/")[2] for name, each in saved.meta_graphs[0].signature_def.items()}
    assert methods.pop("__saved_model_init_op") == ""
    assert methods == {
        "serving_default": "predict",
        "classify": "classify",
        "named": "classify",
        "binary": "classify",
        "regress": "regress",
        "column": "regress",
    }
    told = tf.saved_model.experimental.read_fingerprint(str(judged.folder)).singleprint()
    assert told == fingerprinting_utils.singleprint_from_saved_model_proto(str(judged.folder))


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        (Classify(), "has 3 outputs (scores, first, narrow); say which is meant: scores=scores"),
        (Classify(scores="nothing"), "has no output 'nothing'; it has scores, first, narrow"),
        (Classify(scores="scores", labels=["a", "b"]), "there are 2 labels, but output 'scores' has 3 classes"),
        (Regress(output="scores"), "output 'scores' is float32 (4, 3); Regress answers with one number a row"),
    ],
)
def test_outputs_that_do_not_fit(ready: Any, expected: str) -> None:
    """An output that the call cannot use is named, with what was expected of it."""
    model = source({"x": spec("float32", 2)}, ("scores", "first", "narrow"), score)
    with pytest.raises(ExportError) as caught:
        build_endpoints(model, SignatureSettings(ready=(ready,)))[-1].predict({"inputs": encode_examples({"x": X})})
    assert expected in str(caught.value)


def test_settings_are_plain_data(tmp_path: Path) -> None:
    """A ready-made signature can be sent to another process before there is a model."""
    import pickle

    ready = Classify(labels=tmp_path / "labels.txt")
    assert pickle.loads(pickle.dumps(ready)) == ready

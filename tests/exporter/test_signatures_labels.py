"""Labels of classes: the files that they come in, and the best of them as a signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.small_source import Version, source, spec
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.image import Image
from tfbundle_exporter.signatures.labels import read_labels
from tfbundle_exporter.signatures.top_k import Labels
from tfbundle_serving.apis.errors import ExportError

CONTENTS = {
    "lines": "tench\ngoldfish\ngrüne Mamba\n",
    "no newline at the end": "tench\ngoldfish\ngrüne Mamba",
    "windows": "\ufefftench\r\ngoldfish\r\ngrüne Mamba\r\n\r\n",
    "list": json.dumps(["tench", "goldfish", "grüne Mamba"]),
    "imagenet": json.dumps({"1": ["n2", "goldfish"], "0": ["n1", "tench"], "2": ["n3", "grüne Mamba"]}),
    "numbered": json.dumps({"2": "grüne Mamba", "0": "tench", "1": "goldfish"}),
    "class_indices": json.dumps({"goldfish": 1, "grüne Mamba": 2, "tench": 0}),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=list(CONTENTS))
def test_files_of_labels(tmp_path: Path, content: str) -> None:
    """Lines and the three kinds of JSON that go round say the same."""
    path = tmp_path / "labels"
    path.write_bytes(content.encode())
    assert read_labels(path) == ("tench", "goldfish", "grüne Mamba")


def test_a_line_may_begin_with_a_bracket(tmp_path: Path) -> None:
    """What looks like JSON and is none is read as lines, as the vocabularies of language models need it."""
    path = tmp_path / "labels.txt"
    path.write_text("[PAD]\n[UNK]\n")
    assert read_labels(path) == ("[PAD]", "[UNK]")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "expected at least one label"),
        ("a.txt", b"a\n\nb\n", "label 1 (counted from 0) is ''"),
        ("a.txt", b"a\n\xff\n", "is not UTF-8: invalid start byte at byte 2"),
        ("a.json", b"[1", "is no JSON"),
        ("a.json", b"[1, 2]", "label 0 (counted from 0) is 1; expected a text"),
        ("a.json", b'{"0": "a", "2": "b"}', "expected the numbers 0 to 1"),
        ("a.json", b'{"a": 1, "b": 2}', "expected the numbers 0 to 1"),
        ("a.json", b'{"0": []}', "expected a text"),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    """The error names the file and the place."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        read_labels(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error says what kind of file was looked for."""
    with pytest.raises(ExportError, match="No such file or directory; expected a file of labels"):
        read_labels(tmp_path / "labels.txt")


SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25], [0, 0, 1]], "f4")


def pass_on(x: Any) -> list[Any]:
    """Answer with the scores that came, and with something else."""
    return [x, x[:, 0]]


def version(folder: Path, **settings: Any) -> Version:
    """Write a model that passes scores on, with labels."""
    model = source({"x": spec("float32", 3)}, ("scores", "other"), pass_on)
    ready = Labels(labels=["a", "b", "c"], output="scores", **settings)
    return Version(folder, model, SignatureSettings(ready=(ready,)))


def test_the_best_classes(tmp_path: Path) -> None:
    """Names and scores of the best, in order; of equal ones the first."""
    answer = version(tmp_path / "1", top_k=2).ask("top_k", {"x": SCORES})
    assert answer["classes"].tolist() == [[b"b", b"c"], [b"a", b"b"], [b"c", b"a"]]
    np.testing.assert_array_equal(answer["scores"], np.array([[0.7, 0.2], [0.5, 0.25], [1, 0]], "f4"))


def test_no_more_than_there_are(tmp_path: Path) -> None:
    """Five of three classes are three."""
    assert version(tmp_path / "1").ask("top_k", {"x": SCORES})["classes"].shape == (3, 3)


def test_the_inputs_stay(tmp_path: Path) -> None:
    """The reference inputs of the plain signature are those of the labelled one."""
    assert version(tmp_path / "1").examples("top_k", {"x": SCORES})["x"] is SCORES


def test_around_an_image(tmp_path: Path) -> None:
    """Bytes of a picture in, names out."""
    import tensorflow as tf

    model = source({"pixels": spec("float32", 1, 1, 3)}, ("scores",), lambda pixels: tf.reshape(pixels, [-1, 3]))
    ready = (Image(low=0, high=1), Labels(labels=["red", "green", "blue"], top_k=1, around="image"))
    made = Version(tmp_path / "1", model, SignatureSettings(ready=ready))
    green = tf.io.encode_png(np.array([[[10, 200, 30]]], np.uint8)).numpy()
    answer = made.ask("top_k", {"image_bytes": np.array([green], object)})
    assert answer["classes"].tolist() == [[b"green"]]
    np.testing.assert_allclose(answer["scores"], [[200 / 255]], rtol=1e-6)
    assert made.endpoints["top_k"].around == "image"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"labels": ["a", "b"], "output": "scores"}, "there are 2 labels, but output 'scores' has 3 classes"),
        ({"labels": ["a", "b", "c"]}, "has 2 outputs (scores, other); say which is meant: output=scores"),
        ({"labels": ["a", "b", "c"], "top_k": 0}, "top_k is at least 1; got 0"),
        ({"labels": ["a", "b", "c"], "around": "image", "output": "scores"}, "'image', which is not there before it"),
    ],
)
def test_what_does_not_fit(settings: Any, expected: str) -> None:
    """The error says the numbers, or the names that there are."""
    model = source({"x": spec("float32", 3)}, ("scores", "other"), pass_on)
    with pytest.raises(ExportError) as caught:
        build_endpoints(model, SignatureSettings(ready=(Labels(**settings),)))[-1].predict({"x": SCORES})
    assert expected in str(caught.value)

"""Classify and regress bodies: every form of a feature, every text, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfbundle_serving.apis.classification import Classifications
from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.example_proto import Kind, decode_example
from tfbundle_serving.apis.input_proto import Input
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_examples import read_examples, write_classifications, write_regressions
from tfbundle_serving.apis.regression import Regressions


def read(body: bytes) -> Input:
    """Read a body, given as text."""
    return read_examples(parse(body))


FORMS: dict[bytes, tuple[Kind | None, list[Any]]] = {
    b'"text"': (Kind.BYTES, [b"text"]),
    b'["a", {"b64": "/w=="}]': (Kind.BYTES, [b"a", b"\xff"]),
    b'{"b64": "aGk="}': (Kind.BYTES, [b"hi"]),
    b"5": (Kind.INT64, [5]),
    b"[-9223372036854775808, 9223372036854775807]": (Kind.INT64, [-(2**63), 2**63 - 1]),
    b"[true, 0, false]": (Kind.INT64, [1, 0, 0]),
    b"1.0": (Kind.FLOAT, [1.0]),
    b"[1e3, 0.5, Infinity]": (Kind.FLOAT, [1000.0, 0.5, float("inf")]),
    b"1e300": (Kind.FLOAT, [float("inf")]),
    b"[]": (None, []),
}


@pytest.mark.parametrize("text", FORMS)
def test_features(text: bytes) -> None:
    """The first value decides the kind, and TensorFlow's own class agrees."""
    (example,) = read(b'{"examples": [{"f": %b}]}' % text).examples
    kind, values = FORMS[text]
    feature = decode_example(example)["f"]
    assert (feature.kind, list(feature.values)) == (kind, values)
    official = tf.train.Example.FromString(example).features.feature["f"]
    assert official.WhichOneof("kind") == (f"{kind.name.lower()}_list" if kind else None)


def test_examples_and_context() -> None:
    """The context stays apart; an example may have no features at all; other keys are not looked at."""
    value = read(b'{"context": {"city": "Oslo"}, "examples": [{"age": 1}, {}], "other": [[]]}')
    assert len(value.examples) == 2
    assert decode_example(value.examples[1]) == {}
    assert value.context is not None
    assert decode_example(value.context)["city"].values == [b"Oslo"]
    assert read(b'{"examples": [{}]}').context is None


REFUSED: dict[bytes, str] = {
    b"{}": "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
    b'{"examples": 1}': "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
    b'{"examples": []}': "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
    b'{"examples": [[1]]}': "Example must be JSON object but got JSON Array",
    b'{"examples": [1]}': "Example must be JSON object but got JSON Number",
    b'{"examples": [true]}': "Example must be JSON object but got JSON True",
    b'{"context": "x"}': "Example must be JSON object but got JSON String",
    b'{"examples": [{"f": null}]}': "Feature: f has element with unexpected JSON type: Null",
    b'{"examples": [{"f": [1, null]}]}': "Feature: f has element with unexpected JSON type: Null",
    b'{"examples": [{"f": [[1]]}]}': "Feature: f has element with unexpected JSON type: Array",
    b'{"examples": [{"f": {"g": 1}}]}': "Feature: f has element with unexpected JSON type: Object",
    b'{"examples": [{"f": [1, 1.0]}]}': "Unexpected element type in feature: f expecting type: int64",
    b'{"examples": [{"f": [1.0, 1]}]}': "Unexpected element type in feature: f expecting type: float",
    b'{"examples": [{"f": ["a", true]}]}': "Unexpected element type in feature: f expecting type: bytes",
    b'{"examples": [{"f": [false, "a"]}]}': "Unexpected element type in feature: f expecting type: int64",
    b'{"examples": [{"f": 9223372036854775808}]}': "Feature: f has uint64_t element. Only int64_t is supported.",
    b'{"examples": [{"f": {"b64": "!"}}]}': "Unable to base64 decode",
}


@pytest.mark.parametrize("body", REFUSED)
def test_refused(body: bytes) -> None:
    """The texts are TensorFlow Serving's."""
    with pytest.raises(InvalidArgument) as caught:
        read(body)
    assert caught.value.message == REFUSED[body]


def test_replies() -> None:
    """Pairs of label and score, or bare numbers; what the model does not give is "" or 0.0."""
    labels = np.array([[b"a", b'"'], [b"gr\xc3\xbcn", b""]], object)
    scores = np.array([[0.1, 1.0], [3e-5, 0.0]], np.float32)
    both = json.loads(write_classifications(Classifications(labels, scores)))
    assert both == {"results": [[["a", 0.1], ['"', 1.0]], [["grün", 3e-5], ["", 0.0]]]}
    assert json.loads(write_classifications(Classifications(None, scores)))["results"][0] == [["", 0.1], ["", 1.0]]
    assert json.loads(write_classifications(Classifications(labels, None)))["results"][0] == [["a", 0.0], ['"', 0.0]]
    assert json.loads(write_classifications(Classifications(None, scores[:, :0]))) == {"results": [[], []]}
    assert write_regressions(Regressions(scores[0])) == b'{"results":[0.1,1.0]}'


def test_replies_that_are_no_json() -> None:
    """NaN and Infinity are bare words, and bytes that are not UTF-8 pass through, as in TensorFlow Serving."""
    odd = np.array([[np.nan, -np.inf]], np.float32)
    labels = np.array([[b"\xff", b"b"]], object)
    assert write_classifications(Classifications(labels, odd)) == b'{"results":[[["\xff",NaN],["b",-Infinity]]]}'
    assert write_regressions(Regressions(odd[0])) == b'{"results":[NaN,-Infinity]}'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(examples=VALUES | st.lists(st.dictionaries(st.text(max_size=4), VALUES), max_size=3), context=VALUES)
def test_any_values(examples: Any, context: Any) -> None:
    """Whatever stands there is read as TensorFlow's own class reads it, or is an error of ours."""
    try:
        value = read_examples({"examples": examples, "context": context})
    except InvalidArgument:
        return
    for example, given_features in zip(value.examples, examples, strict=True):
        assert set(tf.train.Example.FromString(example).features.feature) == set(given_features)


def test_strings_that_are_no_text() -> None:
    """A lone surrogate is no JSON; bytes that are not UTF-8 stay what they are, in values and in names."""
    with pytest.raises(InvalidArgument, match=r"^JSON Parse error: The surrogate pair in string is invalid\."):
        read(b'{"examples": [{"f": "\\ud800"}]}')
    (example,) = read(b'{"examples": [{"\xfe": "\xff"}]}').examples
    assert decode_example(example)["\udcfe"].values == [b"\xff"]

"""Classify and regress bodies of the REST API.

    {"signature_name": "...", "context": {"country": "no"}, "examples": [{"age": 5, "words": ["a", "b"]}, ...]}

A feature is a value or a flat list of values, and its first value decides what all of them are:

    "text", {"b64": "..."}      bytes_list
    1.0, 1e3, NaN               float_list
    1, true                     int64_list
    []                          a feature without a kind

    {"results": [[["cat", 0.9], ["dog", 0.1]], ...]}     from classify
    {"results": [0.2, 0.9]}                              from regress

Source: tensorflow_serving/util/json_tensor.cc (FillClassifyRegressRequestFromJson, MakeJsonFromClassificationResult,
MakeJsonFromRegressionResult).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from .classification import Classifications
from .errors import InvalidArgument
from .example_proto import Feature, Kind, encode_example
from .input_proto import Input
from .json_array import as_raw_text, dump_document, to_json
from .json_dump import dump
from .json_tensor import is_base64, read_base64, type_name
from .regression import Regressions

_CONTEXT, _EXAMPLES, _RESULTS = "context", "examples", "results"
_KIND_NAMES = {Kind.BYTES: "bytes", Kind.FLOAT: "float", Kind.INT64: "int64"}
#: Type of a parsed value to the kind of feature that it makes.
_KINDS: dict[type, Kind] = {
    str: Kind.BYTES,
    dict: Kind.BYTES,
    float: Kind.FLOAT,
    int: Kind.INT64,
    bool: Kind.INT64,
}
_INT64_MAX = (1 << 63) - 1


def read_examples(document: Mapping[str, Any]) -> Input:
    """Read the examples of a classify or regress body.

    Args:
        document: The parsed body.

    Raises:
        InvalidArgument: It has none, or one is none, in TensorFlow Serving's words (which say classify to both).
    """
    context = _read_example(document[_CONTEXT]) if _CONTEXT in document else None
    if _EXAMPLES not in document:
        raise _refused(document, f"When method is classify, key '{_EXAMPLES}' is expected and was not found")
    examples = document[_EXAMPLES]
    if not isinstance(examples, list):
        raise _refused(document, f"Expecting '{_EXAMPLES}' value to be an list/array")
    if not examples:
        raise _refused(document, f"'{_EXAMPLES}' value is an empty array")
    return Input([_read_example(example) for example in examples], context)


def _refused(document: Mapping[str, Any], text: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {dump(document)} {text}")


def _read_example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    return encode_example({name: _read_feature(name, content) for name, content in value.items()})


def _read_feature(name: str, content: Any) -> Feature:
    elements = content if isinstance(content, list) else [content]
    kind: Kind | None = None
    values: list[Any] = []
    for element in elements:
        own = _KINDS.get(type(element))
        if own is None or (isinstance(element, dict) and not is_base64(element)):
            raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {type_name(element)}")
        if kind is not None and own is not kind:
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[kind]}")
        kind = own
        if own is Kind.INT64 and element > _INT64_MAX:
            raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        if own is Kind.BYTES:
            element = read_base64(element) if isinstance(element, dict) else element.encode("utf-8", "surrogateescape")
        values.append(element)
    return Feature(kind, values)


def write_classifications(result: Classifications) -> bytes:
    """Write the reply to a classify request: for each example a list of [label, score].

    Returns:
        The body. Labels that are not UTF-8 and scores that are not finite make invalid JSON, as in TensorFlow Serving.
    """
    examples, count = result.shape
    scores = _tokens(np.zeros(examples * count, np.float32) if result.scores is None else result.scores.ravel())
    labels: list[Any] = [""] * (examples * count)
    if result.labels is not None:
        labels = to_json("", result.labels.ravel(), not_text=as_raw_text)
    classes = list(zip(labels, scores, strict=True))
    return dump_document({_RESULTS: [classes[row * count : (row + 1) * count] for row in range(examples)]})


def _tokens(scores: NDArray[np.float32]) -> list[orjson.Fragment]:
    """Write each number on its own, the way that a whole array of them is written."""
    if not scores.size:
        return []
    return [
        orjson.Fragment(text) for text in dump_document(to_json("", scores, not_text=as_raw_text))[1:-1].split(b",")
    ]


def write_regressions(result: Regressions) -> bytes:
    """Write the reply to a regress request; see `write_classifications`."""
    return dump_document({_RESULTS: to_json("", result.values, not_text=as_raw_text)})

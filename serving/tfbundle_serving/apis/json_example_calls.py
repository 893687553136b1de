"""Classify and regress over REST, seen from the client: writes the requests and reads the replies of `json_examples`.

Source: tensorflow_serving/util/json_tensor.cc, as `json_examples`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .classification import Classifications
from .dtypes import FLOAT
from .errors import ApiError, DecodeError, InvalidArgument
from .example_proto import Feature, Kind, decode_example
from .input_proto import Input
from .json_array import as_base64, dump_document, to_json
from .json_document import parse
from .json_dump import dump
from .json_tensor import read_tensor
from .regression import Regressions

_DTYPES = {Kind.FLOAT: np.float32, Kind.INT64: np.int64}


def write_examples(value: Input, signature_name: str = "") -> bytes:
    """Write the body of a classify or regress request.

    Args:
        value: Serialized examples and their context.
        signature_name: Signature that is called; empty means `serving_default`.

    Returns:
        The body. Strings that are not UTF-8 are base64. A feature with an empty list arrives without its kind.

    Raises:
        InvalidArgument: An example is none.
    """
    document: dict[str, Any] = {"signature_name": signature_name} if signature_name else {}
    if value.context is not None:
        document["context"] = _write_example(value.context, "the context")
    document["examples"] = [_write_example(data, f"example {at}") for at, data in enumerate(value.examples)]
    return dump_document(document)


def _write_example(data: bytes, where: str) -> dict[str, Any]:
    try:
        features = decode_example(data)
    except DecodeError as error:
        raise InvalidArgument(f"{where} is no serialized tf.train.Example: {error}", attempts=0) from error
    return {name: _write_feature(feature) for name, feature in features.items()}


def _write_feature(feature: Feature) -> Any:
    if not feature.values or feature.kind is None:
        return []
    dtype = _DTYPES.get(feature.kind, object)
    array = np.empty(len(feature.values), dtype)
    array[:] = feature.values
    return to_json("", array, not_text=as_base64)


def read_classifications(body: bytes) -> Classifications:
    """Read the reply to a classify request.

    Returns:
        As over gRPC: labels are bytes, "" where the model gives none.

    Raises:
        DecodeError: It is not such a reply, or examples differ in their number of classes.
    """
    rows = _results(body)
    if not all(isinstance(row, list) and all(_is_class(each) for each in row) for row in rows):
        raise DecodeError(f"results are not lists of [label, score]: {dump(rows)[:200]}")
    count = len(rows[0]) if rows else 0
    if any(len(row) != count for row in rows):
        raise DecodeError("examples differ in their number of classes")
    labels = np.empty((len(rows), count), object)
    for at, row in enumerate(rows):
        labels[at] = [label.encode("utf-8", "surrogateescape") for label, _ in row]
    scores = np.array([[score for _, score in row] for row in rows], np.float32).reshape(labels.shape)
    return Classifications(labels, scores)


def _is_class(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
    )


def read_regressions(body: bytes) -> Regressions:
    """Read the reply to a regress request.

    Raises:
        DecodeError: It is not such a reply.
    """
    rows = _results(body)
    try:
        values = read_tensor(rows, FLOAT)
    except ApiError as error:
        raise DecodeError(f"results are not numbers: {error.message}") from error
    if values.ndim != 1:
        raise DecodeError(f"results are not one number for each example, their shape is {values.shape}")
    return Regressions(values)


def _results(body: bytes) -> list[Any]:
    try:
        document = parse(body)
    except InvalidArgument as error:
        raise DecodeError(f"the reply is not JSON: {error.message}") from error
    results = document.get("results")
    if not isinstance(results, list):
        raise DecodeError(f"the reply has no 'results': {dump(document)[:200]}")
    return results

"""Replies of the REST API: written by the server, read by the client.

    {"predictions": [[0.1, 0.9], [0.8, 0.2]]}                 to rows, one output
    {"predictions": [{"a": 1, "b": "x"}, {...}]}              to rows, several outputs
    {"outputs": [[0.1, 0.9], [0.8, 0.2]]}                     to columns, one output
    {"outputs": {"a": [1, 3], "b": ["x", "y"]}}               to columns, several outputs
    {"error": "Servable not found for request: Latest(digits)"}

A single output comes without its name, and no output with its dtype: the signature has both.

Source: tensorflow_serving/util/json_tensor.cc (MakeJsonFromTensors, MakeJsonFromStatus).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from . import dtypes, json_pieces
from .errors import ApiError, DecodeError, InvalidArgument
from .json_array import as_raw_text, dump_document, rows_to_json, to_json
from .json_document import parse
from .json_dump import dump, quote
from .json_tensor import has_json_form, read_tensor
from .signatures import Signature, TensorSpec

_ROWS, _COLUMNS, _ERROR = "predictions", "outputs", "error"


def write_outputs(outputs: Mapping[str, NDArray[Any]], *, rows: bool) -> bytes:
    """Write the reply to a predict request.

    Args:
        outputs: Output name to array; strings as object arrays of bytes.
        rows: Whether the request had rows ("instances").

    Returns:
        The body. Strings of outputs named "..._bytes" are base64; other strings stand there as they are, even if
        they are not UTF-8; NaN and Infinity are bare words. The last two make invalid JSON, as in TensorFlow Serving.

    Raises:
        InvalidArgument: An output has no JSON form, or outputs do not form rows.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if rows:
        _check_rows(outputs)
    for array in outputs.values():
        dtype = dtypes.of_numpy(array.dtype)
        if not has_json_form(dtype):
            raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype.name}")
    if rows and len(outputs) > 1:
        columns = [rows_to_json(name, array, not_text=as_raw_text) for name, array in outputs.items()]
        return dump_document({_ROWS: [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]})
    values = {name: to_json(name, array, not_text=as_raw_text) for name, array in outputs.items()}
    only = next(iter(values.values()))
    return dump_document({_ROWS if rows else _COLUMNS: only if len(values) == 1 else values})


def _check_rows(outputs: Mapping[str, NDArray[Any]]) -> None:
    batch_size: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if batch_size is not None and len(array) != batch_size:
            raise InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch_size}"
            )
        batch_size = len(array)


def read_outputs(body: bytes, signature: Signature) -> dict[str, NDArray[Any]]:
    """Read the reply to a predict request.

    Args:
        body: The reply's body.
        signature: The signature that was called; gives names, dtypes, and the inner shape of empty outputs.

    Returns:
        Output name to array, in the signature's order; strings as object arrays of bytes.

    Raises:
        DecodeError: It is not the reply of such a signature; the message names the output.
    """
    if len(signature.outputs) == 1:
        ((name, spec),) = signature.outputs.items()
        array = json_pieces.read_single_output(body, spec.dtype)
        if array is not None:
            return {name: array}
    try:
        document = parse(body)
    except InvalidArgument as error:
        raise DecodeError(f"the reply is not JSON: {error}") from error
    key = next((key for key in (_COLUMNS, _ROWS) if key in document), None)
    if key is None:
        raise DecodeError(f"the reply has neither '{_COLUMNS}' nor '{_ROWS}': {dump(document)}")
    return {
        name: _read_output(name, _select(name, document[key], signature, is_rows=key == _ROWS), spec)
        for name, spec in signature.outputs.items()
    }


def _select(name: str, value: Any, signature: Signature, *, is_rows: bool) -> Any:
    """Find an output's values in a reply."""
    if len(signature.outputs) == 1:
        return value
    objects = value if is_rows and isinstance(value, list) else [value]
    for each in objects:
        if not isinstance(each, dict) or name not in each:
            raise DecodeError(f"output {name} is missing from the reply: {dump(each)}")
    return [each[name] for each in objects] if is_rows else value[name]


def _read_output(name: str, value: Any, spec: TensorSpec) -> NDArray[Any]:
    try:
        array = read_tensor(value, spec.dtype)
    except ApiError as error:
        raise DecodeError(f"output {name} is not what the signature says ({spec}): {error.message}") from error
    if array.size == 0 and spec.shape is not None and array.ndim < len(spec.shape):
        # [] is all that is left of an output without rows; the signature knows what they would look like.
        return np.empty(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]), array.dtype)
    return array


def write_error(message: str) -> bytes:
    """Write the body of a failed request."""
    return write_json({_ERROR: message})


def read_error(body: bytes, fallback: str) -> str:
    """Read the message of a failed request.

    Args:
        body: What came; not JSON where a proxy or the HTTP server itself answered.
        fallback: What to say if it holds no message.
    """
    try:
        message = parse(body).get(_ERROR)
    except InvalidArgument:
        return fallback
    return message if isinstance(message, str) and message else fallback


def write_json(document: Any) -> bytes:
    """Write a body for people and programs: status, metadata, errors; indented, ending with a line break."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        return orjson.dumps(document, option=options)
    except orjson.JSONEncodeError:  # strings that came in as surrogate escapes leave as the bytes that they were
        return orjson.dumps(_as_fragments(document), option=options)


def _as_fragments(value: Any) -> Any:
    if isinstance(value, str):
        return orjson.Fragment(quote(value).encode("utf-8", "surrogateescape"))
    if isinstance(value, dict):
        return {name: _as_fragments(inner) for name, inner in value.items()}
    return [_as_fragments(inner) for inner in value] if isinstance(value, (list, tuple)) else value

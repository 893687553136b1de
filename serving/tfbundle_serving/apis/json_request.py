"""Predict bodies of the REST API: read by the server, written by the client.

    {"signature_name": "...", "instances": [[1, 2], [3, 4]]}              rows, one input
    {"instances": [{"a": 1, "b": [2]}, {"a": 3, "b": [4]}]}               rows, several inputs
    {"inputs": [[1, 2], [3, 4]]}                                          columns, one input
    {"inputs": {"a": [1, 3], "b": [[2], [4]]}}                            columns, several inputs

Rows must all have one shape, and get the batch dimension in front. Columns have the shape that they have.

Source: tensorflow_serving/util/json_tensor.h and json_tensor.cc (FillPredictRequestFromJson).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from . import dtypes
from .dtypes import DType
from .errors import ApiError, InvalidArgument, Unimplemented
from .json_array import as_base64, dump_document, rows_to_json, to_json
from .json_dump import dump
from .json_tensor import build, has_json_form, is_base64, read_fitting, read_tensor, walk
from .signatures import Signature

_SIGNATURE, _ROWS, _COLUMNS = "signature_name", "instances", "inputs"


def signature_name(document: Mapping[str, Any]) -> str:
    """Read which signature a body asks for; "" where it does not say.

    Raises:
        InvalidArgument: The name is not a string.
    """
    name = document.get(_SIGNATURE, "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {dump(document)} not formatted correctly. '{_SIGNATURE}' key must be a string value."
        )
    return name


def read_inputs(
    document: Mapping[str, Any], signature: Signature, signature_name: str, *, only_numbers: bool = False
) -> tuple[dict[str, NDArray[Any]], bool]:
    """Read the inputs of a predict body.

    Args:
        document: The parsed body.
        signature: Gives the names and dtypes of the inputs; shapes are left to the model.
        signature_name: The name that the body gave for it, "" for none.
        only_numbers: What `json_document.only_numbers` said of the body.

    Returns:
        Input name to array (strings as object arrays of bytes), and whether the body had rows, which decides the
        form of the reply.

    Raises:
        InvalidArgument: The body does not fit the signature, in TensorFlow Serving's words.
        Unimplemented: An input of a column body has a dtype without JSON form.
    """
    if not signature.inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
    if _ROWS in document:
        if _COLUMNS in document:
            raise InvalidArgument(
                f"JSON Value: {dump(document)} Not formatted correctly expecting only one of "
                f"'{_COLUMNS}' or '{_ROWS}' keys to exist "
            )
        rows = document[_ROWS]
        if not isinstance(rows, list):
            raise InvalidArgument(f"JSON Value: {dump(document)} Expecting '{_ROWS}' to be an list/array")
        if not rows:
            raise InvalidArgument(f"JSON Value: {dump(document)} No values in '{_ROWS}' array")
        return _read_rows(rows, signature, only_numbers), True
    if _COLUMNS in document:
        return _read_columns(document[_COLUMNS], signature, only_numbers), False
    raise InvalidArgument(f"Missing '{_COLUMNS}' or '{_ROWS}' key")


def _is_object(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _read_columns(value: Any, signature: Signature, only_numbers: bool) -> dict[str, NDArray[Any]]:
    if not _is_object(value):
        if len(signature.inputs) > 1:
            raise InvalidArgument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        value = dict.fromkeys(signature.inputs, value)
    arrays = {}
    for name, spec in signature.inputs.items():
        if name not in value:
            raise InvalidArgument(f"Missing named input: {name} in '{_COLUMNS}' object.")
        arrays[name] = read_tensor(value[name], spec.dtype, only_numbers=only_numbers)
    return arrays


def _read_rows(rows: list[Any], signature: Signature, only_numbers: bool) -> dict[str, NDArray[Any]]:
    are_objects = _is_object(rows[0])
    if not are_objects and len(signature.inputs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    arrays = {}
    for name, column in _columns(rows, signature, are_objects).items():
        array = read_fitting(column, signature.inputs[name].dtype, only_numbers=only_numbers)
        if array is None:
            break
        arrays[name] = array
    return arrays if len(arrays) == len(signature.inputs) else _walk_rows(rows, signature, are_objects)


def _columns(rows: list[Any], signature: Signature, are_objects: bool) -> dict[str, list[Any]]:
    """Turn rows into columns; nothing where a row has another form or other names."""
    if not are_objects:
        return dict.fromkeys(signature.inputs, rows) if len(signature.inputs) == 1 else {}
    names = signature.inputs.keys()
    if names == {"b64"} or set(map(type, rows)) != {dict} or any(row.keys() != names for row in rows):
        return {}
    return {name: [row[name] for row in rows] for name in names}


def _walk_rows(rows: list[Any], signature: Signature, are_objects: bool) -> dict[str, NDArray[Any]]:
    """Read rows one by one, for the error that the first bad one deserves."""
    columns = {name: _Column() for name in signature.inputs}
    for index, row in enumerate(rows):
        if _is_object(row) != are_objects:
            expected, got = ("object", "list") if are_objects else ("value/list", "object")
            raise InvalidArgument(f"Expecting {expected} but got {got} at item {index} of input list")
        for name, value in row.items() if are_objects else ((next(iter(columns)), row),):
            where = f"{index} key: {name}" if are_objects else str(index)
            _add(columns, name, value, signature, where)
        if are_objects and row.keys() != columns.keys():
            raise InvalidArgument(
                f"Failed to process element: {index} of '{_ROWS}' list. JSON object: {dump(row)} "
                f"keys must be equal to: {','.join(sorted(columns))}"
            )
    return {
        name: build(column.flat, [len(rows), *column.shape], signature.inputs[name].dtype)
        for name, column in columns.items()
    }


def _add(columns: dict[str, _Column], name: str, value: Any, signature: Signature, where: str) -> None:
    try:
        if name not in columns:
            raise InvalidArgument(f"JSON object: does not have named input: {name}")
        columns[name].add(value, signature.inputs[name].dtype)
    except ApiError as error:
        raise InvalidArgument(
            f"Failed to process element: {where} of '{_ROWS}' list. Error: {error.status_name}: {error.message}"
        ) from None


class _Column:
    """The values of one input, collected row by row; the first row gives the shape of all."""

    def __init__(self) -> None:
        self.flat: list[Any] = []
        self.shape: list[int] = []
        self._is_empty = True

    def add(self, value: Any, dtype: DType) -> None:
        flat, shape = walk(value, dtype)
        if self._is_empty:
            self.shape, self._is_empty = shape, False
        size = math.prod(self.shape)
        if len(flat) != size:
            raise InvalidArgument(f"Expecting tensor size: {size} but got: {len(flat)}")
        if shape != self.shape:
            raise InvalidArgument(f"Expecting shape {_show(self.shape)} but got: {_show(shape)}")
        self.flat += flat


def _show(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def write_inputs(
    inputs: Mapping[str, NDArray[Any]],
    signature: Signature | None,
    *,
    signature_name: str = "",
    rows: bool = False,
) -> bytes:
    """Write a predict body.

    Args:
        inputs: Input name to array, of the dtypes that the signature gives; strings as bytes or str.
        signature: Where it is known, its dtypes are held against what JSON can carry.
        signature_name: Left out where empty.
        rows: Write "instances" instead of "inputs"; every input needs the same number of rows, at least one.

    Returns:
        The body. Floats survive to the last bit; strings that are not UTF-8, or whose input's name ends in "_bytes",
        are {"b64": ...}.

    Raises:
        InvalidArgument: Rows that cannot be written; the message names the input.
        Unimplemented: An input's dtype or shape has no JSON form; the message names it.
    """
    for name, array in inputs.items():
        _check_form(name, array, signature)
    if rows:
        body = {_ROWS: _write_rows(inputs)}
    else:
        body = {_COLUMNS: {name: to_json(name, array, not_text=as_base64) for name, array in inputs.items()}}
    return dump_document({_SIGNATURE: signature_name, **body} if signature_name else body)


def _check_form(name: str, array: NDArray[Any], signature: Signature | None) -> None:
    used = [dtypes.of_numpy(array.dtype)]
    if signature is not None and name in signature.inputs:
        used.append(signature.inputs[name].dtype)
    for dtype in used:
        if not has_json_form(dtype):
            raise Unimplemented(
                f"input {name} is of dtype {dtype.numpy_name or dtype.name}, which JSON cannot carry; use gRPC",
                attempts=0,
            )
    if 0 in array.shape[:-1]:
        raise Unimplemented(
            f"input {name} has the shape {array.shape}, which JSON cannot carry: [] has no inner dimensions; use gRPC",
            attempts=0,
        )


def _write_rows(inputs: Mapping[str, NDArray[Any]]) -> Any:
    sizes = {name: array.shape[:1] for name, array in inputs.items()}
    if len(set(sizes.values())) != 1 or not all(sizes.values()) or (0,) in sizes.values():
        got = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
        raise InvalidArgument(
            f"'{_ROWS}' needs the same number of rows of every input, at least 1; got {got}", attempts=0
        )
    columns = {name: rows_to_json(name, array, not_text=as_base64) for name, array in inputs.items()}
    if len(columns) > 1:
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    name, array = next(iter(inputs.items()))
    return to_json(name, array, not_text=as_base64)

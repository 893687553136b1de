"""golden.npz: reference inputs and the source model's outputs, per signature, kept beside the model.

It is an ordinary .npz that numpy reads without pickle, one member an array, named <signature>/<inputs|outputs>/<alias>
with each part percent-encoded. What .npy cannot say is split up, and the name's ending tells how to join it:

    serving_default/inputs/image             float32 (256, 8, 8, 1)
    serving_default/outputs/score:bfloat16   the 16 bits of each value, as uint16
    serving_default/inputs/text:lengths      int64, the string tensor's shape; the length of each string in bytes
    serving_default/inputs/text:bytes        uint8, all strings behind each other (they may hold NULs)
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from . import dtypes
from .errors import DecodeError, InvalidArgument

_INPUTS, _OUTPUTS = "inputs", "outputs"
_LENGTHS, _BYTES, _BFLOAT16 = "lengths", "bytes", "bfloat16"


@dataclass(frozen=True, slots=True)
class Golden:
    """What one signature was asked and what the source model answered.

    Attributes:
        inputs: Alias to array, rows first.
        outputs: Alias to array; strings are object arrays of bytes.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]


def write_golden(path: str | os.PathLike[str], goldens: Mapping[str, Golden]) -> None:
    """Write a golden.npz; the same content gives the same bytes.

    Args:
        path: The file to make or replace; its folder exists.
        goldens: Signature name to what it was asked and answered.

    Raises:
        InvalidArgument: An array has no TensorFlow dtype; the message names signature and alias.
    """
    members: dict[str, NDArray[Any]] = {}
    for signature, golden in sorted(goldens.items()):
        for role, arrays in ((_INPUTS, golden.inputs), (_OUTPUTS, golden.outputs)):
            for alias, array in sorted(arrays.items()):
                name = "/".join((quote(signature, safe=""), role, quote(alias, safe="")))
                try:
                    members.update(_members(name, np.asarray(array)))
                except InvalidArgument as error:
                    raise InvalidArgument(f"{signature}, {role[:-1]} {alias}: {error}") from error
    # Given an open file, numpy adds no ".npz" to the name.
    with Path(path).open("wb") as file:
        np.savez(file, **members)  # type: ignore[arg-type]  # the stubs mistake member names for savez's own flag


def _members(name: str, array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    dtype = dtypes.of_numpy(array.dtype)
    if dtype.is_string:
        strings = [_as_bytes(element) for element in array.ravel().tolist()]
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        yield f"{name}:{_LENGTHS}", lengths.reshape(array.shape)
        yield f"{name}:{_BYTES}", np.frombuffer(b"".join(strings), np.uint8)
    elif dtype is dtypes.BFLOAT16:
        yield f"{name}:{_BFLOAT16}", np.ascontiguousarray(array).view(np.uint16).reshape(array.shape)
    else:
        yield name, array


def _as_bytes(element: object) -> bytes:
    if isinstance(element, str):
        return element.encode("utf-8", "surrogateescape")
    if not isinstance(element, bytes):
        raise InvalidArgument(f"a string tensor takes bytes or str, got {type(element).__name__}: {element!r:.80}")
    return element


def read_golden(path: str | os.PathLike[str]) -> dict[str, Golden]:
    """Read a golden.npz.

    Returns:
        Signature name to what it was asked and answered.

    Raises:
        DecodeError: The file is not a golden.npz, or damaged; the message names it.
        Unimplemented: It holds bfloat16 values and the package ml_dtypes is not installed.
        OSError: It is missing or cannot be read.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _join(dict(archive.items()))
    except DecodeError as error:
        raise DecodeError(f"{path} is not a golden.npz: {error}") from error
    # TypeError and AttributeError: a lone .npy is loaded as an array, which is neither a context nor a mapping.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecodeError(f"{path} is not a golden.npz, or is damaged: {error}") from error


def _join(members: dict[str, NDArray[Any]]) -> dict[str, Golden]:
    goldens: dict[str, Golden] = {}
    arrays: dict[str, dict[str, dict[str, NDArray[Any]]]] = {}
    for member, array in members.items():
        name, _, form = member.partition(":")
        parts = name.split("/")
        if len(parts) != 3 or parts[1] not in (_INPUTS, _OUTPUTS):
            raise DecodeError(f"unexpected member {member!r}")
        if form == _BYTES:
            continue
        roles = arrays.setdefault(unquote(parts[0]), {_INPUTS: {}, _OUTPUTS: {}})
        if form == _LENGTHS:
            array = _strings(array, members[f"{name}:{_BYTES}"], name)
        elif form == _BFLOAT16:
            array = array.view(dtypes.BFLOAT16.to_numpy())
        elif form:
            raise DecodeError(f"unexpected member {member!r}")
        roles[parts[1]][unquote(parts[2])] = array
    for signature, roles in arrays.items():
        goldens[signature] = Golden(roles[_INPUTS], roles[_OUTPUTS])
    return goldens


def _strings(lengths: NDArray[Any], content: NDArray[Any], name: str) -> NDArray[Any]:
    flat = lengths.ravel()
    if lengths.dtype != np.int64 or content.dtype != np.uint8 or (flat < 0).any() or flat.sum() != content.size:
        raise DecodeError(f"the lengths and bytes of {name} do not belong together")
    data, ends = content.tobytes(), np.cumsum(flat)
    strings = np.empty(flat.size, object)
    strings[:] = [data[end - size : end] for end, size in zip(ends.tolist(), flat.tolist(), strict=True)]
    return strings.reshape(lengths.shape)

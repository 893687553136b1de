"""tf.Example: named features, each a flat list of one kind.

    Example{features: Features{feature: {"age": Feature{int64_list: [5]}, "name": Feature{bytes_list: [b"x"]}}}}

Source: tensorflow/core/example/example.proto, feature.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .errors import DecodeError
from .wire import (
    FIXED32,
    LENGTH,
    Readable,
    as_view,
    fields,
    length_field,
    pack_varints,
    read_map_entry,
    signed,
    string_field,
    unpack_varints,
    varint,
    view,
)

#: As long as a list is shorter, numpy takes longer than Python.
_FEW = 32


class Kind(Enum):
    """What a feature lists; the value is the number of its field in Feature."""

    BYTES = 1
    FLOAT = 2
    INT64 = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Attributes:
        kind: What it lists; None for one without a kind, which lists nothing.
        values: bytes, float (kept as float32) or int (within int64).
    """

    kind: Kind | None
    values: Sequence[Any] = ()


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """Write a tf.Example, features in the order given."""
    entries = (
        length_field(1, string_field(1, name) + length_field(2, _encode_feature(feature)))
        for name, feature in features.items()
    )
    return length_field(1, b"".join(entries))


def _encode_feature(feature: Feature) -> bytes:
    if feature.kind is None:
        return b""
    if feature.kind is Kind.BYTES:
        listed = b"".join(length_field(1, bytes(value)) for value in feature.values)
    elif not feature.values:
        listed = b""
    elif feature.kind is Kind.FLOAT:
        listed = length_field(1, _pack_floats(feature.values))
    else:
        listed = length_field(1, _pack_integers(feature.values))
    return length_field(feature.kind.value, listed)


def _pack_floats(values: Sequence[float]) -> bytes:
    try:
        return struct.pack(f"<{len(values)}f", *values)
    except OverflowError:  # what float32 cannot hold becomes infinite, as in C++
        with np.errstate(over="ignore"):
            return np.array(values, np.float64).astype("<f4").tobytes()


def _pack_integers(values: Sequence[int]) -> bytes:
    if len(values) < _FEW:
        return b"".join(map(varint, values))
    return pack_varints(np.array(values, np.int64).view(np.uint64))


def decode_example(data: Readable) -> dict[str, Feature]:
    """Read a tf.Example.

    Raises:
        DecodeError: The bytes are not one.
    """
    features: dict[str, Feature] = {}
    for number, _, content in fields(view(data)):
        if number != 1:
            continue
        for inner, _, entry in fields(as_view(content, "features")):
            if inner == 1:
                name, feature = read_map_entry(as_view(entry, "feature"), "feature")
                features[name] = _decode_feature(feature)
    return features


def _decode_feature(data: memoryview) -> Feature:
    feature = Feature(None)
    for number, _, content in fields(data):
        if number in (1, 2, 3):
            kind = Kind(number)
            before = feature.values if feature.kind is kind else ()
            feature = Feature(kind, [*before, *_decode_list(kind, as_view(content, "feature"))])
    return feature


def _decode_list(kind: Kind, data: memoryview) -> Sequence[Any]:
    if kind is Kind.BYTES:
        return _decode_bytes(data)
    return _decode_floats(data) if kind is Kind.FLOAT else _decode_integers(data)


def _decode_bytes(data: memoryview) -> list[bytes]:
    return [bytes(as_view(value, "bytes_list")) for number, _, value in fields(data) if number == 1]


def _decode_floats(data: memoryview) -> list[float]:
    values: list[float] = []
    for number, wire_type, value in fields(data):
        if number != 1:
            continue
        if wire_type not in (LENGTH, FIXED32) or len(as_view(value, "float_list")) % 4:
            raise DecodeError("float_list does not hold whole floats")
        values += np.frombuffer(as_view(value, "float_list"), "<f4").tolist()
    return values


def _decode_integers(data: memoryview) -> list[int]:
    values: list[int] = []
    for number, wire_type, value in fields(data):
        if number != 1:
            continue
        if isinstance(value, int):
            values.append(signed(value))
        elif wire_type == LENGTH:
            values += unpack_varints(value).view(np.int64).tolist()
        else:
            raise DecodeError("int64_list does not hold varints")
    return values

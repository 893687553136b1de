"""The values of a checkpoint or of a SavedModel's variables folder, read without TensorFlow.

    variables.index                 a sorted table: name of a tensor -> dtype, shape, shard, offset, size
    variables.data-00000-of-00001   the values behind each other, little-endian, row by row

Reading them here takes milliseconds where importing TensorFlow takes seconds.

Source: tensorflow/core/protobuf/tensor_bundle.proto; tensorflow/core/util/tensor_bundle/tensor_bundle.cc; the table is
LevelDB's (tensorflow/core/lib/io/table_format.txt), its blocks not compressed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.dtypes import DType
from tfbundle_serving.apis.errors import DecodeError
from tfbundle_serving.apis.wire import as_int, as_view, fields, read_varint, view

_FOOTER_BYTES = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
#: The entry that describes the bundle itself.
_HEADER_KEY = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEntry:
    """Where a tensor lies.

    Attributes:
        dtype: Its dtype.
        shape: Its shape.
        shard: Number of the data file.
        offset: First byte in it.
        size: Length in bytes.
        checksum: CRC-32C of the bytes, masked, as it is stored.
        is_sliced: Whether its values are stored in parts, as TensorFlow 1 does with partitioned variables.
    """

    dtype: DType
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: bytes = b""
    is_sliced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What a .index file says.

    Attributes:
        prefix: Path of the checkpoint without ".index".
        shards: How many data files there are.
        entries: Name to where it lies.
    """

    prefix: Path
    shards: int
    entries: Mapping[str, BundleEntry]

    def data_file(self, shard: int) -> Path:
        """Name a data file."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def missing_bytes(self) -> dict[Path, int]:
        """Tell by how much each data file is shorter than its entries need; whole files are left out."""
        needed: dict[int, int] = {}
        for entry in self.entries.values():
            needed[entry.shard] = max(needed.get(entry.shard, 0), entry.offset + entry.size)
        missing = {}
        for shard, size in needed.items():
            path = self.data_file(shard)
            short = size - (path.stat().st_size if path.exists() else 0)
            if short > 0:
                missing[path] = short
        return missing

    def read(self, name: str) -> NDArray[Any]:
        """Read a tensor.

        Raises:
            DecodeError: The data file is too short, or the values are stored in a form that is not read here.
            OSError: The data file cannot be read.
        """
        entry = self.entries[name]
        if entry.is_sliced:
            raise DecodeError(f"{self.prefix}: {name} is stored in slices")
        path = self.data_file(entry.shard)
        with path.open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if len(data) != entry.size:
            raise DecodeError(f"{path} is cut off inside {name}")
        if entry.dtype.is_string:
            return _strings(data, entry.shape, name)
        try:
            return np.frombuffer(data, entry.dtype.to_numpy().newbyteorder("<")).reshape(entry.shape)
        except (ValueError, TypeError) as error:
            raise DecodeError(f"{self.prefix}: {name} cannot be read: {error}") from error


def _strings(data: bytes, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Read strings: all lengths as varints, a checksum of four bytes, all contents."""
    at, lengths = 0, []
    for _ in range(math.prod(shape)):
        length, at = read_varint(data, at)
        lengths.append(length)
    at += 4
    strings = np.empty(len(lengths), object)
    for place, length in enumerate(lengths):
        strings[place] = data[at : at + length]
        at += length
    if at != len(data):
        raise DecodeError(f"the strings of {name} do not fill their {len(data)} bytes")
    return strings.reshape(shape)


def read_bundle(prefix: Path) -> Bundle:
    """Read the index of a checkpoint.

    Args:
        prefix: Its path without ".index".

    Raises:
        DecodeError: The index is damaged; the message names it.
        OSError: It is missing or cannot be read.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    data = index.read_bytes()
    try:
        entries = dict(_table(data))
        header = entries.pop(_HEADER_KEY)
        shards = next((as_int(value, "num_shards") for number, _, value in fields(view(header)) if number == 1), 1)
        return Bundle(
            prefix=prefix,
            shards=shards,
            # Names of slices are binary, and what they hold is read through no name of its own.
            entries={
                key.decode("utf-8", "backslashreplace"): _entry(value)
                for key, value in entries.items()
                if not key.startswith(b"\x00")
            },
        )
    except (DecodeError, KeyError, IndexError, struct.error) as error:
        raise DecodeError(f"{index} is no index of a checkpoint, or is damaged: {error}") from error


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER_BYTES or data[-8:] != _MAGIC:
        raise DecodeError("it does not end as a table does")
    footer = data[-_FOOTER_BYTES:]
    at = 0
    for _ in range(2):  # the handle of the meta index, which is of no use here
        _, at = read_varint(footer, at)
    offset, at = read_varint(footer, at)
    size, _ = read_varint(footer, at)
    for _, handle in _block(data, offset, size):
        start, at = read_varint(handle, 0)
        length, _ = read_varint(handle, at)
        yield from _block(data, start, length)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    block = data[offset : offset + size]
    if len(block) != size or offset + size >= len(data):
        raise DecodeError("a block lies outside of it")
    if data[offset + size] != 0:
        raise DecodeError("its blocks are compressed")
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length


def _entry(data: bytes) -> BundleEntry:
    found = dict.fromkeys((1, 3, 4, 5), 0)
    shape: tuple[int, ...] = ()
    is_sliced, checksum = False, b""
    for number, _, value in fields(view(data)):
        if number == 2:
            shape = _shape(as_view(value, "shape"))
        elif number == 6:
            checksum = bytes(as_view(value, "crc32c"))
        elif number == 7:
            is_sliced = True
        elif number in found:
            found[number] = as_int(value, "entry")
    return BundleEntry(
        dtype=dtypes.by_number(found[1]),
        shape=shape,
        shard=found[3],
        offset=found[4],
        size=found[5],
        checksum=checksum,
        is_sliced=is_sliced,
    )


def _shape(data: memoryview) -> tuple[int, ...]:
    sizes = []
    for number, _, dim in fields(data):
        if number == 2:
            sizes.append(
                next((as_int(value, "size") for inner, _, value in fields(as_view(dim, "dim")) if inner == 1), 0)
            )
    return tuple(sizes)

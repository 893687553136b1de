"""Files with rows, read a batch at a time whatever their size.

    .npy       an array; its rows are the input's
    .npz       a member for each input, named after it; compressed or not
    .csv       a line of column names, then a line for each row
    .parquet   columns; needs pyarrow
    .jsonl     a line for each instance, as TensorFlow Serving's "instances" has them

Columns go to the inputs of their names. Where a signature has one input of shape (?, n) and no column bears its name,
the numeric columns in their order are that input.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import BundleError, InvalidArgument
from tfbundle_serving.apis.json_document import parse
from tfbundle_serving.apis.json_request import read_inputs
from tfbundle_serving.apis.signatures import Signature, TensorSpec

from ..calls.input_fitting import describe_inputs, only_input

Inputs = dict[str, NDArray[Any]]


def read_batches(path: Path, signature: Signature, *, batch_size: int, first_row: int = 0) -> Iterator[Inputs]:
    """Read a file's rows from one on, as batches of inputs.

    Raises:
        InvalidArgument: The file is not what its name says, or does not go with the signature; the message names it.
        OSError: It cannot be read.
    """
    try:
        yield from _READERS[path.suffix](path, signature, batch_size, first_row)
    except (ValueError, EOFError, UnicodeDecodeError, csv.Error, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"{path} is not a {path.suffix} file that can be scored: {error}", attempts=0) from error
    except InvalidArgument as error:
        message = error.message
        raise InvalidArgument(message if str(path) in message else f"{path}: {message}", attempts=0) from error


def count_rows(path: Path) -> int | None:
    """Tell how many rows a file has, where it says so in front.

    Raises:
        InvalidArgument: The file is not what its name says.
        OSError: It cannot be read.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _Npy(file).rows
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
                return _Npy(member).rows
        if path.suffix == ".parquet":
            return int(pyarrow_parquet().ParquetFile(path).metadata.num_rows)
    except (ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"{path} is not a {path.suffix} file with rows: {error}", attempts=0) from error
    return None


class _Npy:
    """One .npy in an open file, read forwards."""

    def __init__(self, file: IO[bytes]) -> None:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"it has version {version} of the format")
        shape, fortran_order, self.dtype = read_header[version](file)
        if self.dtype.hasobject:
            raise ValueError("it holds Python objects")
        if not shape:
            raise ValueError("it holds a single value and no rows")
        if fortran_order and len(shape) > 1:
            raise ValueError("its values lie column by column; store numpy.ascontiguousarray(array)")
        self.rows, self.row_shape = int(shape[0]), tuple(shape[1:])
        self._file = file
        self._row_bytes = int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    def skip(self, rows: int) -> None:
        self._file.seek(rows * self._row_bytes, 1)

    def read(self, rows: int) -> NDArray[Any]:
        data = self._file.read(rows * self._row_bytes)
        if len(data) != rows * self._row_bytes:
            raise EOFError("it ends early")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.row_shape)


def _read_npy(path: Path, signature: Signature, batch_size: int, first_row: int) -> Iterator[Inputs]:
    with path.open("rb") as file:
        yield from _npy_batches({only_input(signature): _Npy(file)}, batch_size, first_row)


def _read_npz(path: Path, signature: Signature, batch_size: int, first_row: int) -> Iterator[Inputs]:
    del signature
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        members = {
            name.removesuffix(".npy"): _Npy(stack.enter_context(archive.open(name))) for name in archive.namelist()
        }
        counts = {name: member.rows for name, member in members.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"its members have different numbers of rows ({counts})")
        yield from _npy_batches(members, batch_size, first_row)


def _npy_batches(members: Mapping[str, _Npy], batch_size: int, first_row: int) -> Iterator[Inputs]:
    rows = next(iter(members.values())).rows
    for member in members.values():
        member.skip(min(first_row, rows))
    for start in range(first_row, rows, batch_size):
        yield {name: member.read(min(batch_size, rows - start)) for name, member in members.items()}


def _read_csv(path: Path, signature: Signature, batch_size: int, first_row: int) -> Iterator[Inputs]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        lines = ((reader.line_num, line) for line in reader if line)
        _, names = next(lines, (0, None))
        if names is None:
            raise ValueError("it is empty; its first line names the columns")
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        mapping: _Mapping | None = None
        row = 0
        while numbered := list(islice(lines, batch_size)):
            numbers, rows = zip(*numbered, strict=True)
            if set(map(len, rows)) != {len(names)}:
                place, strange = next((row + n, each) for n, each in enumerate(rows) if len(each) != len(names))
                raise ValueError(f"row {place} has {len(strange)} values, there are {len(names)} columns")
            texts = dict(zip(names, zip(*rows, strict=True), strict=True))
            if mapping is None:  # which columns hold numbers is decided by the first batch, wherever scoring begins
                columns = {name: _are_numbers(values) for name, values in texts.items()}
                try:
                    mapping = _Mapping(signature, columns)
                except ValueError as error:
                    raise ValueError(f"{error}{_text_among_numbers(texts, numbers)}") from None
            if row + len(rows) > first_row:
                skip = max(0, first_row - row)
                kept = {name: values[skip:] for name, values in texts.items()}
                yield mapping.take(partial(_parse_one, kept, numbers[skip:]))
            row += len(rows)


def _text_among_numbers(texts: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> str:
    """Name the first field of text in a column that else has numbers, behind "; "; "" where there is none."""
    for name, values in texts.items():
        strange = [(number, text) for number, text in zip(numbers, values, strict=True) if not _are_numbers([text])]
        if strange and len(strange) < len(values):
            return f"; line {strange[0][0]}, column {name!r} has {strange[0][1]!r:.80}, which is no number"
    return ""


def _are_numbers(texts: Sequence[str]) -> bool:
    try:
        for text in texts:
            if text.strip():
                float(text)
    except ValueError:
        return False
    return True


def _parse_one(texts: Mapping[str, Sequence[str]], numbers: Sequence[int], name: str, spec: TensorSpec) -> NDArray[Any]:
    try:
        return _parse(texts[name], spec, name)
    except ValueError:
        for number, text in zip(numbers, texts[name], strict=True):
            trouble = _trouble(text, spec, name)
            if trouble:
                raise ValueError(f"line {number}, {trouble}") from None
        raise


def _trouble(text: str, spec: TensorSpec, name: str) -> str:
    """Say what is wrong with one field; "" where nothing is."""
    try:
        _parse([text], spec, name)
    except ValueError as error:
        return str(error)
    return ""


def _parse(texts: Sequence[str], spec: TensorSpec, name: str) -> NDArray[Any]:
    """Make a column of texts what an input wants; an empty field is NaN where there is one."""
    if spec.dtype.is_string:
        return np.array([text.encode() for text in texts], object)
    to = spec.dtype.to_numpy()
    if to.kind == "b":
        known = {"true": True, "1": True, "false": False, "0": False}
        strange = next((text for text in texts if text.strip().lower() not in known), None)
        if strange is not None:
            raise ValueError(f"column {name!r}: {strange!r} is neither true nor false")
        return np.array([known[text.strip().lower()] for text in texts])
    try:
        if to.kind in "iu":
            return np.array(list(map(int, texts)), to)
        try:
            return np.array(list(map(float, texts)), to)
        except ValueError:
            return np.array(list(map(_number_or_nan, texts)), to)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"column {name!r}, which is to be {spec.type_name}: {error}") from None


def _number_or_nan(text: str) -> float:
    return float(text) if text.strip() else float("nan")


def _read_parquet(path: Path, signature: Signature, batch_size: int, first_row: int) -> Iterator[Inputs]:
    parquet = pyarrow_parquet()
    from pyarrow import types  # type: ignore[import-untyped]

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))

    with parquet.ParquetFile(path) as file:
        mapping = _Mapping(signature, {field.name: is_number(field.type) for field in file.schema_arrow})
        skip = first_row
        groups: list[int] = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not groups and skip >= rows:
                skip -= rows
            else:
                groups.append(group)
        for batch in file.iter_batches(batch_size, row_groups=groups, columns=mapping.columns):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            rest, skip = batch.slice(skip), 0
            yield mapping.take(partial(_from_arrow_one, rest))


def _from_arrow_one(batch: Any, name: str, spec: TensorSpec) -> NDArray[Any]:
    return _from_arrow(batch.column(name), spec, name)


def _from_arrow(column: Any, spec: TensorSpec, name: str) -> NDArray[Any]:
    from pyarrow import types

    if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        widths = set(column.value_lengths().to_pylist())
        if len(widths) != 1 or None in widths:
            raise ValueError(f"the lists of column {name!r} differ in length")
        flat = _from_arrow(column.flatten(), spec, name)
        return flat.reshape(len(column), widths.pop(), *flat.shape[1:])
    if spec.dtype.is_string:
        texts = column.to_pylist()
        if None in texts:
            raise ValueError(f"column {name!r} has empty fields, which are no strings")
        return np.array([text.encode() if isinstance(text, str) else text for text in texts], object)
    if column.null_count and spec.dtype.to_numpy().kind not in "fc":
        raise ValueError(f"column {name!r} has empty fields, which {spec.type_name} has no value for")
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def pyarrow_parquet() -> Any:
    """Import `pyarrow.parquet`.

    Raises:
        InvalidArgument: It is not installed.
    """
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "a .parquet file needs the package pyarrow, which is not installed: pip install 'tfbundle[tables]'",
            attempts=0,
        ) from error
    return parquet


class _Mapping:
    """Which columns are which inputs.

    Args:
        signature: What is called.
        columns: Column name to whether it holds numbers.
    """

    def __init__(self, signature: Signature, columns: Mapping[str, bool]) -> None:
        self._specs = signature.inputs
        self._is_matrix = False
        wanted = [name for name in signature.inputs if name in columns]
        if not wanted and len(signature.inputs) == 1:
            self._name, spec = next(iter(signature.inputs.items()))
            self._is_matrix = spec.shape is not None and len(spec.shape) == 2
            wanted = [name for name, is_number in columns.items() if is_number or spec.dtype.is_string]
            if self._is_matrix and spec.shape is not None and spec.shape[1] not in (None, len(wanted)):
                raise ValueError(f"it has {len(wanted)} columns of numbers, but {describe_inputs(signature)}")
        missing = [name for name in signature.inputs if name not in columns and name not in signature.defaults]
        if missing and not self._is_matrix:
            raise ValueError(f"it has no column {missing[0]!r}: {describe_inputs(signature)}")
        self.columns = wanted

    def take(self, column: Callable[[str, TensorSpec], NDArray[Any]]) -> Inputs:
        """Make the inputs of one batch."""
        if self._is_matrix:
            spec = self._specs[self._name]
            return {self._name: np.stack([column(name, spec) for name in self.columns], axis=1)}
        return {name: _as_column(column(name, self._specs[name]), self._specs[name]) for name in self.columns}


def _as_column(values: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    is_column = spec.shape is not None and len(spec.shape) == 2 and values.ndim == 1
    return values[:, None] if is_column else values


def _read_jsonl(path: Path, signature: Signature, batch_size: int, first_row: int) -> Iterator[Inputs]:
    with path.open("rb") as file:
        row = first_row
        lines = islice((line for line in file if line.strip()), first_row, None)
        while texts := list(islice(lines, batch_size)):
            try:
                document = parse(b'{"instances": [' + b",".join(texts) + b"]}")
                yield read_inputs(document, signature, "")[0]
            except BundleError as error:
                raise InvalidArgument(f"rows {row} to {row + len(texts) - 1}: {error}", attempts=0) from error
            row += len(texts)


_READERS: dict[str, Callable[[Path, Signature, int, int], Iterator[Inputs]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
}
#: What can be read and written.
ENDINGS = tuple(_READERS)

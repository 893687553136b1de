"""Files of answers, written a batch at a time, in pieces below a folder; `partial_file` says how they become one.

.npy       one output
.npz       a member for each output
.csv       a column for each output; name_0, name_1, ... for outputs with more than one value in a row
.parquet   a column for each output, of lists where a row has more than one value
.jsonl     a line for each row, as in TensorFlow Serving's "predictions"
"""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import InvalidArgument

from ..commands.output import array_to_json
from .readers import pyarrow_parquet

Outputs = Mapping[str, NDArray[Any]]


class Writer(Protocol):
    """Writes one kind of file, in pieces below a folder."""

    def append(self, outputs: Outputs, rows: int) -> None:
        """Add the answers to some rows: all of them or, with InvalidArgument, nothing."""

    def flush(self) -> None:
        """Bring all that was added into the folder's files."""

    def finish(self, rows: int) -> Path:
        """Complete the file of all rows, and say where it is."""

    def close(self) -> None:
        """Let go of open files."""


class _NpyFiles:
    """A .npy for each output, whose header is written again when the number of rows is known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self._kinds: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for path in sorted(folder.glob("*.npy")):
            file = self._files[unquote(path.stem)] = path.open("r+b")
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            self._kinds[unquote(path.stem)] = dtype, tuple(shape[1:])
            file.seek(0, os.SEEK_END)

    def append(self, outputs: Outputs, rows: int) -> None:
        del rows
        for name, array in outputs.items():
            if array.dtype.hasobject:
                raise InvalidArgument(
                    f"output {name!r} is a string, which .csv, .jsonl and .parquet can hold and .npy cannot", attempts=0
                )
            if name not in self._files:
                # numpy has no name for bfloat16 in a file.
                dtype = np.dtype(np.float32) if array.dtype.name == "bfloat16" else array.dtype
                self._kinds[name] = dtype, array.shape[1:]
                self._files[name] = (self._folder / f"{quote(name, safe='')}.npy").open("w+b")
                self._write_header(name, 0)
            _, row_shape = self._kinds[name]
            if array.shape[1:] != row_shape:
                raise InvalidArgument(
                    f"output {name!r} has rows of shape {array.shape[1:]} after rows of shape {row_shape}: "
                    ".jsonl can hold both",
                    attempts=0,
                )
        for name, array in outputs.items():
            self._files[name].write(np.ascontiguousarray(array, self._kinds[name][0]).data)

    def _write_header(self, name: str, rows: int) -> None:
        dtype, row_shape = self._kinds[name]
        file = self._files[name]
        file.seek(0)
        # numpy leaves space for any number of rows, so that the header's length stays.
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *row_shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def finish(self, rows: int) -> Path:
        if len(self._files) != 1:
            raise InvalidArgument(
                f"a .npy holds one output, there are {', '.join(self._files) or 'none'}: use .npz or --outputs",
                attempts=0,
            )
        return self._finish_all(rows)[0]

    def _finish_all(self, rows: int) -> list[Path]:
        for name, file in self._files.items():
            self._write_header(name, rows)
            file.close()
        return [Path(file.name) for file in self._files.values()]

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class _Npy(_NpyFiles):
    def append(self, outputs: Outputs, rows: int) -> None:
        if len(outputs) != 1:
            raise InvalidArgument(
                f"a .npy holds one output, there are {', '.join(outputs)}: use .npz or --outputs", attempts=0
            )
        super().append(outputs, rows)


class _Npz(_NpyFiles):
    def finish(self, rows: int) -> Path:
        names = list(self._files)
        whole = self._folder / "whole.npz"
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, path in zip(names, self._finish_all(rows), strict=True):
                archive.write(path, f"{name}.npy")
        return whole


class _Lines:
    """A text file that grows by lines."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lines"
        self._file = self._path.open("a", encoding="utf-8", newline="")

    def flush(self) -> None:
        self._file.flush()

    def finish(self, rows: int) -> Path:
        del rows
        self._file.close()
        return self._path

    def close(self) -> None:
        self._file.close()


class _Jsonl(_Lines):
    def append(self, outputs: Outputs, rows: int) -> None:
        columns = {name: array_to_json(array) for name, array in outputs.items()}
        for place in range(rows):
            row = {name: column[place] for name, column in columns.items()}
            answer = row if len(row) != 1 else next(iter(row.values()))
            self._file.write(f"{json.dumps(answer, ensure_ascii=False)}\n")


class _Csv(_Lines):
    def append(self, outputs: Outputs, rows: int) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names: list[str] = []
        columns: list[list[Any]] = []
        for name, array in outputs.items():
            flat = array.reshape(rows, -1)
            names += [name] if array.ndim == 1 else [f"{name}_{place}" for place in range(flat.shape[1])]
            columns += [array_to_json(flat[:, place]) for place in range(flat.shape[1])]
        if self._file.tell() == 0:
            writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
        self._file.write(text.getvalue())


class _Parquet:
    """Part files, since one that is not closed cannot be read; they become one at the end."""

    def __init__(self, folder: Path) -> None:
        self._parquet = pyarrow_parquet()
        self._folder = folder
        self._parts = sorted(folder.glob("part-*.parquet"))
        self._tables: list[Any] = []

    def append(self, outputs: Outputs, rows: int) -> None:
        import pyarrow  # type: ignore[import-untyped]

        del rows
        columns = {}
        for name, array in outputs.items():
            flat = array.reshape(-1)
            if flat.dtype.name == "bfloat16":
                flat = flat.astype(np.float32)
            column = pyarrow.array(flat.tolist() if flat.dtype == object else flat)
            for size in reversed(array.shape[1:]):
                column = pyarrow.FixedSizeListArray.from_arrays(column, size)
            columns[name] = column
        self._tables.append(pyarrow.table(columns))

    def flush(self) -> None:
        import pyarrow

        if self._tables:
            part = self._folder / f"part-{len(self._parts):08d}.parquet"
            self._parquet.write_table(pyarrow.concat_tables(self._tables), part)
            self._parts.append(part)
            self._tables = []

    def finish(self, rows: int) -> Path:
        del rows
        whole = self._folder / "whole.parquet"
        schema = self._parquet.read_schema(self._parts[0])
        with self._parquet.ParquetWriter(whole, schema) as writer:
            for part in self._parts:
                writer.write_table(self._parquet.read_table(part))
        return whole

    def close(self) -> None:
        self._tables = []


#: Ending to what writes such a file; given the folder.
WRITERS: dict[str, Callable[[Path], Writer]] = {
    ".npy": _Npy,
    ".npz": _Npz,
    ".csv": _Csv,
    ".parquet": _Parquet,
    ".jsonl": _Jsonl,
}

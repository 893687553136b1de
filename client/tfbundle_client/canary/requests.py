"""The requests that a canary is compared by: recorded ones, arrays, or reference inputs, read as they are needed.

requests.tfrecord              PredictionLogs, as `tfbundle serve --record` writes them: requests as they were
inputs.npz, inputs.npy         rows, each of which could be a request; a .npy may be larger than memory
golden.npz                     the same for each signature
{"image": array}, array        the same, given by the caller
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.errors import BundleError, ParityError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.model_spec import DEFAULT_SIGNATURE
from tfbundle_serving.apis.prediction_log import read_prediction_logs
from tfbundle_serving.apis.signatures import PREDICT_METHOD, Signature

from ..parity.inputs import rows_of

Arrays = Mapping[str, NDArray[Any]]
#: A file, or arrays by input name, or the array of the only input.
Source = str | os.PathLike[str] | Mapping[str, ArrayLike] | NDArray[Any]

#: Rows of a table that are read at once.
_TABLE_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question.

    Attributes:
        signature: The signature's name.
        method_name: Which call it is: predict, classify or regress.
        inputs: Alias to array; serialized tf.Examples under "inputs" for classify and regress.
        rows: How many examples it holds; 1 where its arrays do not share their first size.
        first_row: How many rows to the same signature were read before.
        is_table: Its rows were no request of their own, and may be cut.
    """

    signature: str
    method_name: str
    inputs: Arrays
    rows: int
    first_row: int
    is_table: bool = False

    @property
    def size(self) -> int:
        """Bytes, about."""
        return sum(_size(array) for array in self.inputs.values())

    def cut(self, start: int, stop: int) -> Request:
        """Give some of the rows of a table as a request."""
        inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        return Request(
            signature=self.signature,
            method_name=self.method_name,
            inputs=inputs,
            rows=min(stop, self.rows) - start,
            first_row=self.first_row + start,
        )


def _size(array: NDArray[Any]) -> int:
    return sum(map(len, array.ravel().tolist())) if array.dtype == object else array.nbytes


@dataclass(slots=True)
class Reading:
    """Reads sources one after the other, and counts.

    Attributes:
        model: Recorded requests to other models are left out.
        signatures: Those of the stable version.
        wanted: The only signature that is asked; "" means all.
        rows: Signature to the rows read so far.
        skipped: Why requests were left out, and how many.
    """

    model: str
    signatures: Mapping[str, Signature]
    wanted: str = ""
    rows: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def default_signature(self) -> str:
        """The signature that arrays without a name are for."""
        if self.wanted:
            return self.wanted
        return next(iter(self.signatures)) if len(self.signatures) == 1 else DEFAULT_SIGNATURE

    def read(self, sources: Sequence[Source]) -> Iterator[Request]:
        """Give the requests of all sources.

        Raises:
            ParityError: One cannot be read, or is none; the message names it.
        """
        for source in sources:
            yield from self._read_one(source)

    def _read_one(self, source: Source) -> Iterator[Request]:
        try:
            yield from self._open(source)
        except ParityError:
            raise
        except BundleError as error:
            raise ParityError(str(error)) from error
        except OSError as error:
            raise ParityError(f"cannot read the inputs {source}: {error.strerror or error}") from error

    def _open(self, source: Source) -> Iterator[Request]:
        if isinstance(source, Mapping):
            arrays = {name: np.asarray(array) for name, array in source.items()}
            yield from self._table(self.default_signature, arrays, "the inputs given")
        elif isinstance(source, np.ndarray):
            yield from self._table(self.default_signature, self._name(source, "the array given"), "the array given")
        else:
            path = Path(source)
            read = {".npy": self._read_npy, ".npz": self._read_npz}.get(path.suffix, self._read_recorded)
            yield from read(path)

    def _read_npy(self, path: Path) -> Iterator[Request]:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ParityError(f"{path} is not a .npy file: {error}") from error
        yield from self._table(self.default_signature, self._name(array, str(path)), str(path))

    def _name(self, array: NDArray[Any], origin: str) -> Arrays:
        signature = self.signatures.get(self.default_signature)
        if signature is None or len(signature.inputs) != 1:
            names = "none" if signature is None else ", ".join(sorted(signature.inputs))
            raise ParityError(
                f"{origin} is one array, and signature {self.default_signature} takes {names}: use .npz and --signature"
            )
        return {next(iter(signature.inputs)): array}

    def _read_npz(self, path: Path) -> Iterator[Request]:
        try:
            with np.load(path, allow_pickle=False) as archive:
                is_golden = any("/inputs/" in name for name in archive)
                arrays = {} if is_golden else dict(archive.items())
        # AttributeError and TypeError: a lone array under this name is no archive.
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError, TypeError) as error:
            raise ParityError(f"{path} is not a .npz file: {error}") from error
        if not is_golden:
            yield from self._table(self.default_signature, arrays, str(path))
            return
        for name, golden in sorted(read_golden(path).items()):
            yield from self._table(name, golden.inputs, str(path))

    def _table(self, name: str, arrays: Arrays, origin: str) -> Iterator[Request]:
        rows = rows_of(arrays.values())
        if not self._is_asked(name, rows):
            return
        if not arrays:
            raise ParityError(f"{origin}: there are no arrays in it")
        whole = len({array.shape[0] if array.ndim else None for array in arrays.values()}) != 1
        fixed = next((spec.shape[0] for spec in self.signatures[name].inputs.values() if spec.shape), None)
        step = rows if whole else fixed or _TABLE_ROWS
        for start in range(0, rows, max(step, 1)):
            stop = min(start + step, rows)
            part = arrays if whole else {alias: np.asarray(array[start:stop]) for alias, array in arrays.items()}
            yield self._request(name, PREDICT_METHOD, part, stop - start, is_table=not whole and not fixed)

    def _read_recorded(self, path: Path) -> Iterator[Request]:
        # A server may be writing the file, or was killed: the whole requests are as good as ever.
        torn = "cut off at the end of the file"
        for record in read_prediction_logs(path, lambda *_: self.skipped.update({torn: 1})):
            rows = rows_of(record.inputs.values())
            if record.model and record.model != self.model:
                self.skipped[f"to another model ({record.model})"] += 1
            elif self._is_asked(record.signature, 1):
                yield self._request(record.signature, record.method_name, record.inputs, rows)

    def _is_asked(self, name: str, count: int) -> bool:
        if self.wanted and name != self.wanted:
            self.skipped[f"to another signature ({name})"] += count
            return False
        if name not in self.signatures:
            self.skipped[f"to signature {name}, which the stable version lacks"] += count
            return False
        return True

    def _request(self, name: str, method_name: str, inputs: Arrays, rows: int, *, is_table: bool = False) -> Request:
        first_row = self.rows[name]
        self.rows[name] += rows
        return Request(
            signature=name,
            method_name=method_name,
            inputs=inputs,
            rows=rows,
            first_row=first_row,
            is_table=is_table,
        )

"""A version's answers to its reference inputs, asked as a server does; runs in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import compare
from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.golden import Golden, read_golden
from tfbundle_serving.apis.version_folder import golden_path

from ..proof.reference import has_rows
from ..runtime import import_tensorflow

#: Why rows are not asked alone, by whether metadata.json says that they are not batchable.
_ALONE = {
    True: "their answers depend on what comes with them",
    False: "metadata.json does not say that they can be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCheck:
    """One output's answer to some of the reference inputs.

    Attributes:
        signature: The signature.
        output: The output.
        batch: Which rows: "all 256", "the first alone".
        equal: Whether it is the answer that golden.npz holds.
        reason: Why it is not; "" where it is.
        max_abs_diff: Largest absolute difference; None where values were not judged.
    """

    signature: str
    output: str
    batch: str
    equal: bool
    reason: str
    max_abs_diff: float | None

    @property
    def verdict(self) -> str:
        """Say whether it is equal, and why not."""
        return "equal" if self.equal else f"differs: {self.reason}"


def check_golden(folder: Path, recorded: Mapping[str, Any]) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    """Ask a version folder what its golden.npz holds: all rows, and the first one alone.

    Args:
        folder: The version folder.
        recorded: Its metadata.json; what it says of batchable and deterministic decides what can be asked.

    Returns:
        The checks, and notes of what was not asked and why.

    Raises:
        ExportError: The version cannot be loaded, or golden.npz not be read.
    """
    tf = import_tensorflow()
    goldens = read_golden(golden_path(folder))
    notes: list[str] = []
    checks: list[OutputCheck] = []
    for signature, golden in goldens.items():
        # Loaded anew for each, so that a stateful one is asked at its beginning, as the source was.
        functions = _load(tf, folder).signatures
        if signature not in functions:
            raise ExportError(f"it has no signature {signature!r}, of which golden.npz holds answers")
        by_value = recorded.get("deterministic") is not False
        allowed = recorded.get("allowed") or ()
        if not by_value and "stateful" not in allowed:
            notes.append("it answers at random, as recorded at export: only shapes and dtypes were compared")
        checks += _check(
            tf, functions[signature], signature, golden, by_value=by_value or "stateful" in allowed, part=None
        )
        if recorded.get("batchable") is not True:
            notes.append(f"rows are not asked alone, since {_ALONE[recorded.get('batchable') is False]}")
        elif _rows(golden) > 1:
            checks += _check(tf, functions[signature], signature, golden, by_value=by_value, part=slice(0, 1))
    silent = sorted(set(recorded.get("signatures") or ()) - goldens.keys())
    if silent:
        notes.append(f"golden.npz holds no answers of {', '.join(silent)}")
    return tuple(checks), tuple(notes)


def _load(tf: Any, folder: Path) -> Any:
    try:
        return tf.saved_model.load(str(folder))
    except Exception as error:  # damage shows in the checkpoint reader, in protobuf, or anywhere between
        raise ExportError(f"it cannot be loaded: {type(error).__name__}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.300}"


def _rows(golden: Golden) -> int:
    """Count the rows that all inputs share; 0 where they share none."""
    sizes = {array.shape[0] if array.ndim else 0 for array in golden.inputs.values()}
    return sizes.pop() if len(sizes) == 1 else 0


def _check(
    tf: Any, function: Any, signature: str, golden: Golden, *, by_value: bool, part: slice | None
) -> Iterator[OutputCheck]:
    rows = _rows(golden)
    batch = f"all {rows}" if part is None else "the first alone"
    inputs = golden.inputs if part is None else {name: array[part] for name, array in golden.inputs.items()}
    try:
        answers = function(**{name: tf.constant(array) for name, array in inputs.items()})
        outputs = {name: np.asarray(tensor.numpy()) for name, tensor in answers.items()}
    except (tf.errors.OpError, TypeError, ValueError, KeyError) as error:
        raise ExportError(f"signature {signature!r} fails on its reference inputs: {_one_line(error)}") from error
    for name, expected in sorted(golden.outputs.items()):
        if part is not None:
            if not has_rows(expected, rows):
                continue
            expected = expected[part]
        yield _judge(signature, name, batch, expected, outputs.get(name), by_value=by_value)


def _judge(
    signature: str, output: str, batch: str, expected: NDArray[Any], actual: NDArray[Any] | None, *, by_value: bool
) -> OutputCheck:
    reason, distance = "it is not there any more", None
    if actual is not None and by_value:
        comparison = compare(expected, actual)
        reason, distance = comparison.reason, comparison.max_abs_diff
    elif actual is not None:
        is_like = actual.shape == expected.shape and actual.dtype == expected.dtype
        reason = "" if is_like else f"expected {expected.dtype} {expected.shape}, got {actual.dtype} {actual.shape}"
    return OutputCheck(
        signature=signature, output=output, batch=batch, equal=not reason, reason=reason, max_abs_diff=distance
    )

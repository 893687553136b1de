"""The gate: a staged version is loaded from disk and must answer like its source, or nothing is published.

It sees the folder and the source's recorded answers, and nothing of the model they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import Comparison, Tolerance, compare
from tfbundle_serving.apis.errors import DecodeError, GateError
from tfbundle_serving.apis.version_folder import WARMUP_REQUESTS

from ..folder.warmup import read_warmup
from ..runtime import import_tensorflow
from .reference import Arrays, Batch, Reference, has_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputParity:
    """How one output of a staged version agrees with the source's, over all batches that were tried.

    Attributes:
        max_abs_diff: Largest absolute difference.
        max_rel_diff: Largest relative difference.
        argmax_agreement: Lowest share of rows with the same largest entry; None where that has no meaning.
        tolerance: What was allowed, for all rows together.
    """

    max_abs_diff: float
    max_rel_diff: float
    argmax_agreement: float | None
    tolerance: Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What was measured of a version that passed.

    Attributes:
        parity: Signature to output to its agreement with the source.
        batch_sizes: The batch sizes that were tried.
        rows: How many reference rows there were.
        noise_floor: How far the source model is from itself when the same rows come in other batches.
        batchable: Whether rows alone and rows together get the same answers.
        deterministic: Whether the same request twice gets the same bits; a version that does not is refused.
        warmup_records: How many warm-up records were replayed.
    """

    parity: Mapping[str, Mapping[str, OutputParity]]
    batch_sizes: tuple[int, ...]
    rows: int
    noise_floor: float
    batchable: bool
    deterministic: bool
    warmup_records: int

    @property
    def outputs(self) -> list[OutputParity]:
        """All outputs of all signatures."""
        return [output for outputs in self.parity.values() for output in outputs.values()]

    @property
    def max_abs_diff(self) -> float:
        """Largest absolute difference of any output."""
        return max(output.max_abs_diff for output in self.outputs)

    @property
    def max_rel_diff(self) -> float:
        """Largest relative difference of any output."""
        return max(output.max_rel_diff for output in self.outputs)

    @property
    def argmax_agreement(self) -> float | None:
        """Lowest agreement of any output that has one."""
        shares = [output.argmax_agreement for output in self.outputs if output.argmax_agreement is not None]
        return min(shares, default=None)


def pass_gate(folder: Path, references: Mapping[str, Reference]) -> GateReport:
    """Load a staged version and hold it against its source.

    Args:
        folder: The staged version folder, complete but for metadata.json.
        references: Signature to reference inputs and the source's answers.

    Raises:
        GateError: It cannot be loaded, lacks a signature, fails on a batch, answers differently from its source or
            from itself, or a warm-up record fails. The message says which signature, output, batch size and elements.
    """
    tf = import_tensorflow()
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # a damaged folder fails in the checkpoint reader, in protobuf, or anywhere between
        raise GateError(f"the staged SavedModel cannot be loaded: {_one_line(error)}") from error
    parity: dict[str, dict[str, OutputParity]] = {}
    batchable = True
    for signature, reference in references.items():
        answers = [_answer(loaded, signature, reference, batch) for batch in reference.batches]
        parity[signature] = _compare_outputs(signature, reference, answers)
        _check_determinism(loaded, signature, reference, answers[-1])
        batchable = batchable and _is_batchable(reference, answers)
    sizes = {batch.size for reference in references.values() for batch in reference.batches}
    return GateReport(
        parity=parity,
        batch_sizes=tuple(sorted(sizes)),
        rows=max(reference.rows for reference in references.values()),
        noise_floor=max(reference.noise_floor for reference in references.values()),
        batchable=batchable,
        deterministic=True,
        warmup_records=_replay_warmup(loaded, folder),
    )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.400}"


def _call(loaded: Any, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Call a signature as a server does: by keyword, with tensors of the signature's own dtypes.

    Raises:
        GateError: There is no such signature, or it fails.
    """
    tf = import_tensorflow()
    if signature not in loaded.signatures:
        raise GateError(f"the staged version has no signature {signature!r}; it has {', '.join(loaded.signatures)}")
    function = loaded.signatures[signature]
    try:
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: np.asarray(tensor.numpy()) for name, tensor in function(**tensors).items()}
    except (tf.errors.OpError, TypeError, ValueError, KeyError) as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
        raise GateError(f"signature {signature!r} fails on {shapes}: {_one_line(error)}") from error


def _answer(loaded: Any, signature: str, reference: Reference, batch: Batch) -> dict[str, NDArray[Any]]:
    outputs = _call(loaded, signature, {name: array[batch.rows] for name, array in reference.inputs.items()})
    if outputs.keys() != batch.outputs.keys():
        raise GateError(
            f"signature {signature!r} answers with {', '.join(sorted(outputs))}; "
            f"the source with {', '.join(sorted(batch.outputs))}"
        )
    return outputs


def _compare_outputs(
    signature: str, reference: Reference, answers: list[dict[str, NDArray[Any]]]
) -> dict[str, OutputParity]:
    found: dict[str, list[Comparison]] = {}
    for batch, answer in zip(reference.batches, answers, strict=True):
        for name, expected in batch.outputs.items():
            comparison = compare(expected, answer[name])
            if not comparison.equal:
                raise GateError(
                    f"signature {signature!r}, output {name!r}, batch of {batch.size}: the staged version does not "
                    f"answer like its source: {comparison.reason}"
                    + "".join(f"; {worst}" for worst in comparison.worst[1:])
                )
            found.setdefault(name, []).append(comparison)
    return {name: _summarize(comparisons) for name, comparisons in found.items()}


def _summarize(comparisons: list[Comparison]) -> OutputParity:
    shares = [each.argmax_agreement for each in comparisons if each.argmax_agreement is not None]
    return OutputParity(
        max_abs_diff=max(each.max_abs_diff for each in comparisons),
        max_rel_diff=max(each.max_rel_diff for each in comparisons),
        argmax_agreement=min(shares, default=None),
        tolerance=comparisons[-1].tolerance,
    )


def _check_determinism(loaded: Any, signature: str, reference: Reference, first: Arrays) -> None:
    second = _call(loaded, signature, reference.inputs)
    for name, answer in first.items():
        comparison = compare(answer, second[name], Tolerance())
        if not comparison.equal:
            raise GateError(
                f"signature {signature!r}, output {name!r}: the same request got two answers ({comparison.reason}); "
                "a random or stateful layer is at work in inference, and state in a server leaks between its callers"
            )


def _is_batchable(reference: Reference, answers: list[dict[str, NDArray[Any]]]) -> bool:
    """Tell whether each row's answer is its own, whatever rows come with it."""
    whole = answers[-1]
    return all(
        has_rows(whole[name], reference.rows)
        and has_rows(output, batch.size)
        and compare(whole[name][batch.rows], output).equal
        for batch, answer in zip(reference.batches, answers, strict=True)
        for name, output in answer.items()
    )


def _replay_warmup(loaded: Any, folder: Path) -> int:
    tf = import_tensorflow()
    count = 0
    if not (folder / WARMUP_REQUESTS).exists():
        return count
    try:
        for request in read_warmup(folder):
            signature = request.model_spec.signature_key if request.model_spec is not None else ""
            _call(loaded, signature, request.inputs)
            count += 1
    except (DecodeError, tf.errors.OpError) as error:
        raise GateError(f"warm-up record {count + 1} cannot be read back: {_one_line(error)}") from error
    except GateError as error:
        raise GateError(f"warm-up record {count + 1}: {error}") from error
    return count

"""One signature of a staged version against its source: the same answers, the same ones twice, alone and together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.comparison import EXACT, Comparison, compare
from tfbundle_serving.apis.errors import GateError

from ..settings import Allowance
from .allowances import Allowances
from .op_scan import Kind, OpScan
from .reference import Arrays, Batch, Reference, has_rows
from .report import OutputParity
from .staged_version import StagedVersion


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured of one signature.

    Attributes:
        parity: Output to its agreement with the source.
        batchable: Whether rows alone and rows together get the same answers.
        deterministic: Whether the same request twice gets the same bits.
    """

    parity: Mapping[str, OutputParity]
    batchable: bool
    deterministic: bool


def prove(version: StagedVersion, signature: str, reference: Reference, scan: OpScan, allowances: Allowances) -> Proof:
    """Ask a signature what its source was asked, each batch twice.

    Args:
        version: The staged version.
        signature: The signature.
        reference: The source's answers.
        scan: The version's ops, to name what is random or keeps state.
        allowances: What is let pass.

    Raises:
        GateError: An answer differs from the source's or from the version's own, and that is not allowed.
    """
    if reference.unsteady:
        _need_chance(
            f"signature {signature!r}, output {reference.unsteady[0]!r}: the source model answers the same request "
            "differently each time",
            scan,
            allowances,
        )
    firsts, seconds = [], []
    for batch in reference.batches:
        # The source's state was reset before each question.
        asked = version.fresh() if reference.stateful else version
        firsts.append(_answer(asked, signature, reference, batch))
        seconds.append(_answer(asked, signature, reference, batch))
    # First of all, since a version that differs from itself may differ from its source for that reason alone.
    deterministic = not reference.unsteady and not reference.stateful
    if deterministic:
        repeated = [
            _is_repeated(signature, batch, first, second, scan, allowances)
            for batch, first, second in zip(reference.batches, firsts, seconds, strict=True)
        ]
        deterministic = all(repeated)
    parity = _compare_outputs(signature, reference, firsts)
    return Proof(parity, batchable=_is_batchable(reference, firsts), deterministic=deterministic)


#: What differs from call to call, to the ops by which it is known.
_CHANCES: tuple[tuple[Kind, Allowance], ...] = (("random", "random"), ("state", "stateful"))


def _need_chance(finding: str, scan: OpScan, allowances: Allowances) -> None:
    """Ask for the allowance that fits the ops; a random seed that is kept as state is random first of all."""
    for kind, allowance in _CHANCES:
        ops = scan.of_kind(kind)
        if ops:
            allowances.need(allowance, f"{finding}; at work is {ops[0]}")
            return
    allowances.need("random", finding)


def _answer(version: StagedVersion, signature: str, reference: Reference, batch: Batch) -> dict[str, NDArray[Any]]:
    outputs = version.call(signature, batch.take(reference.inputs))
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
        for name in batch.outputs:
            comparison = check_output(
                f"signature {signature!r}, output {name!r}, {batch}: the staged version", reference, batch, answer, name
            )
            found.setdefault(name, []).append(comparison)
    return {
        name: _summarize(comparisons, by_value=name not in reference.unsteady) for name, comparisons in found.items()
    }


def check_output(what: str, reference: Reference, batch: Batch, answer: Arrays, name: str) -> Comparison:
    """Hold one output against the source's: its values, or where these are random its shape, dtype and finiteness.

    Args:
        what: What is judged, for the message: "signature 's', output 'y', batch of 2: the staged version".
        reference: What was asked.
        batch: The batch that was sent.
        answer: Output name to what came.
        name: The output.

    Raises:
        GateError: It is not the same answer.
    """
    expected = batch.outputs[name]
    comparison = compare(expected, answer[name])
    if name in reference.unsteady:
        reason = _misfit(expected, answer[name])
    else:
        reason = comparison.reason + "".join(f"; {worst}" for worst in comparison.worst[1:])
    if reason:
        raise GateError(f"{what} does not answer like its source: {reason}")
    return comparison


def _misfit(expected: NDArray[Any], actual: NDArray[Any]) -> str:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"expected {expected.dtype} {expected.shape}, got {actual.dtype} {actual.shape}"
    if actual.dtype.kind not in "fcV":
        return ""
    if np.isfinite(expected.astype(np.complex128)).all() and not np.isfinite(actual.astype(np.complex128)).all():
        return "expected finite numbers, got some that are not"
    return ""


def _summarize(comparisons: list[Comparison], *, by_value: bool) -> OutputParity:
    shares = [each.argmax_agreement for each in comparisons if each.argmax_agreement is not None]
    return OutputParity(
        max_abs_diff=max(each.max_abs_diff for each in comparisons),
        max_rel_diff=max(each.max_rel_diff for each in comparisons),
        argmax_agreement=min(shares, default=None),
        tolerance=comparisons[-1].tolerance,
        by_value=by_value,
    )


def _is_repeated(
    signature: str, batch: Batch, first: Arrays, second: Arrays, scan: OpScan, allowances: Allowances
) -> bool:
    """Tell whether a request got the same bits twice; refuse what differs by more than rounding."""
    same = True
    for name, answer in first.items():
        comparison = compare(answer, second[name])
        if not comparison.equal:
            _need_chance(
                f"signature {signature!r}, output {name!r}, {batch}: the same request got two answers "
                f"({comparison.reason})",
                scan,
                allowances,
            )
        same = same and compare(answer, second[name], EXACT).equal
    return same


def _is_batchable(reference: Reference, answers: list[dict[str, NDArray[Any]]]) -> bool:
    """Tell whether each row's answer is its own, whatever rows come with it."""
    if reference.stateful or reference.unsteady or not reference.is_batched:
        return False
    whole = answers[-1]
    return all(
        batch.places is not None
        and has_rows(whole[name], reference.rows)
        and has_rows(output, len(batch.places))
        and compare(whole[name][list(batch.places)], output).equal
        for batch, answer in zip(reference.batches, answers, strict=True)
        for name, output in answer.items()
    )

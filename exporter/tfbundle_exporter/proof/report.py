"""What the gate measured of a version that passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfbundle_serving.apis.comparison import Tolerance

from ..settings import Allowance
from .op_scan import OpScan


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputParity:
    """How one output of a staged version agrees with the source's, over all batches that were tried.

    Attributes:
        max_abs_diff: Largest absolute difference.
        max_rel_diff: Largest relative difference.
        argmax_agreement: Lowest share of rows with the same largest entry; None where that has no meaning.
        tolerance: What was allowed, for all rows together.
        by_value: Whether values were judged; of a random output only shape, dtype and finiteness can be.
    """

    max_abs_diff: float
    max_rel_diff: float
    argmax_agreement: float | None
    tolerance: Tolerance
    by_value: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedReport:
    """What came over the wire from a server that was started on the staged version.

    Attributes:
        server: The command that started it.
        max_abs_diff: Transport ("grpc", "rest") to the largest absolute difference from the source.
        left_out: What was not compared, and why: JSON has no form for some dtypes.
    """

    server: str
    max_abs_diff: Mapping[str, float]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "server": self.server,
            "max_abs_diff": dict(self.max_abs_diff),
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """What was measured of a version that passed.

    Attributes:
        parity: Signature to output to its agreement with the source.
        batch_sizes: The batch sizes that were tried; empty where the version takes one number of rows only.
        rows: How many reference rows there were.
        noise_floor: How far the source model is from itself when the same rows come in other batches.
        batchable: Whether rows alone and rows together get the same answers.
        deterministic: Whether the same request twice gets the same bits.
        warmup_records: How many warm-up records were replayed.
        allowed: What the version would have been refused for, had it not been allowed.
        ops: The ops that it runs.
        files: How many files it has, all readable.
        served: What a server answered; None where none was started.
    """

    parity: Mapping[str, Mapping[str, OutputParity]]
    batch_sizes: tuple[int, ...]
    rows: int
    noise_floor: float
    batchable: bool
    deterministic: bool
    warmup_records: int
    allowed: tuple[Allowance, ...]
    ops: OpScan
    files: int
    served: ServedReport | None = None

    @property
    def outputs(self) -> list[OutputParity]:
        """All outputs of all signatures."""
        return [output for outputs in self.parity.values() for output in outputs.values()]

    @property
    def max_abs_diff(self) -> float:
        """Largest absolute difference of any output whose values were judged; 0 where none were."""
        return max((output.max_abs_diff for output in self.outputs if output.by_value), default=0.0)

    @property
    def max_rel_diff(self) -> float:
        """Largest relative difference of any output whose values were judged; 0 where none were."""
        return max((output.max_rel_diff for output in self.outputs if output.by_value), default=0.0)

    @property
    def argmax_agreement(self) -> float | None:
        """Lowest agreement of any output that has one."""
        shares = [each.argmax_agreement for each in self.outputs if each.by_value and each.argmax_agreement is not None]
        return min(shares, default=None)

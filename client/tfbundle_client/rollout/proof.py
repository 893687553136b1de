"""Parity as a condition: what a version answers at every server must be what its source model answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError, ParityError, RolloutError
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path, list_versions

from ..parity.check import check_parity
from ..parity.result import ParityReport
from .fleet import Fleet
from .rules import Seen
from .server import Server

_SKIP = "--skip-parity goes on without a proof"


def find_golden(seen: Seen, model: str, version: int) -> Path:
    """Name the golden.npz of a version.

    Raises:
        RolloutError: There is none that could be read here.
    """
    if not seen.path or seen.versions is None:
        raise RolloutError(
            f"cannot prove {model} version {version}: its versions are not on this machine; --base-path says where "
            f"they are, {_SKIP}; nothing was changed"
        )
    golden = golden_path(list_versions(seen.path)[version])
    if not golden.is_file():
        raise RolloutError(
            f"cannot prove {model} version {version}: {golden} is missing; export it with example inputs, or "
            f"{_SKIP}; nothing was changed"
        )
    return golden


def prove(
    fleet: Fleet, model: str, golden: Path, *, version: int, label: str | None = None, across_devices: bool = False
) -> tuple[ParityReport, ...]:
    """Compare every signature of a golden.npz at every server.

    Args:
        fleet: The servers.
        model: Model name.
        golden: The reference.
        version: The version that is meant.
        label: Ask through this label, which must mean the version; then one request a signature is enough.
        across_devices: The answers are of a CPU and the servers run on GPUs, or the other way round.

    Raises:
        RolloutError: A server answers otherwise, with the figures, or no comparison could be made.
    """
    try:
        signatures = tuple(read_golden(golden))
    except (BundleError, OSError) as error:
        raise RolloutError(f"cannot prove {model} version {version}: {golden}: {error}") from error

    def compare(server: Server) -> list[ParityReport]:
        return [
            _compare(server, model, golden, version, signature, label, across_devices=across_devices)
            for signature in signatures
        ]

    found = fleet.ask(compare).all(f"prove {model} version {version}")
    return tuple(report for url in sorted(found) for report in found[url])


def _compare(
    server: Server, model: str, golden: Path, version: int, signature: str, label: str | None, *, across_devices: bool
) -> ParityReport:
    report = check_parity(
        server.client,
        model,
        golden,
        version=version if label is None else None,
        label=label,
        signature=signature,
        batch_sizes=None if label is None else (1 << 30,),
        across_devices=across_devices,
    )
    if report.version != version:
        raise ParityError(f"label {label} means version {report.version}, expected {version}")
    if not report.is_equal:
        raise ParityError(say_difference(report))
    return report


def say_difference(report: ParityReport) -> str:
    """Say in one line by how much a version's answers differ from those of its source model."""
    (side,) = report.transports
    agreement = (
        "" if side.argmax_agreement is None else f", the same best class in {side.argmax_agreement:.2%} of the rows"
    )
    reasons = [
        f"{name}: {each.reason}" for run in side.runs[-1:] for name, each in run.comparisons.items() if not each.equal
    ] or [f"{name}: {each.reason}" for run in side.runs for name, each in run.comparisons.items() if not each.equal]
    return (
        f"version {report.version}, signature {report.signature}, does not answer like the model that was exported "
        f"({report.examples} rows): max abs difference {side.max_abs_diff:.3g}, relative {side.max_rel_diff:.3g}"
        f"{agreement} ({'; '.join(reasons[:2])})"
    )


def say_proof(reports: Sequence[ParityReport]) -> str:
    """Say in one line that a version was proven."""
    worst = max(each.transports[0].max_abs_diff for each in reports)
    return f"its answers equal those of the model that was exported: max abs difference {worst:.3g}"

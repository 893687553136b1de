"""A canary's own promise: what it serves equals what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfbundle_serving.apis.errors import InvalidArgument, NotFound, ParityError, Unavailable
from tfbundle_serving.apis.golden import read_golden
from tfbundle_serving.apis.version_folder import golden_path

from ..client import Client, Timeout
from ..parity.check import check_parity
from ..parity.result import ParityReport
from .evidence import Promise


def check_promise(
    clients: Sequence[Client], model: str, version: int, folders: Mapping[int, Path], label: str, timeout: Timeout
) -> Promise:
    """Hold what the canary answers at every server, through its label, against its golden.npz."""
    folder = folders.get(version)
    if folder is None or not golden_path(folder).is_file():
        where = "its folder is not known" if folder is None else f"{golden_path(folder)} is missing"
        return Promise(is_equal=None, reason=where)
    is_labelled = all(_labelled(client, model, label, timeout) == version for client in clients)
    largest = 0.0
    for signature in read_golden(golden_path(folder)):
        try:
            report = check_parity(
                clients,
                model,
                folder,
                version=None if is_labelled else version,
                label=label if is_labelled else None,
                signature=signature,
                timeout=timeout,
            )
        except ParityError as error:
            # A canary that cannot answer its own reference inputs is no reason to say nothing of the rest.
            return Promise(is_equal=False, reason=str(error))
        if not report.is_equal:
            return Promise(is_equal=False, max_abs_diff=report.max_abs_diff, reason=_difference(report))
        largest = max(largest, report.max_abs_diff)
    return Promise(is_equal=True, max_abs_diff=largest)


def _labelled(client: Client, model: str, label: str, timeout: Timeout) -> int | None:
    try:
        return client.metadata(model, label=label, timeout=timeout).version
    except (InvalidArgument, NotFound, Unavailable):
        return None


def _difference(report: ParityReport) -> str:
    return next(
        f"output {name}, {run.batch_size} examples a request at {each.url}: {comparison.reason}"
        for each in report.transports
        for run in each.runs
        for name, comparison in run.comparisons.items()
        if not comparison.equal
    )

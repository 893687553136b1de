"""`tfbundle parity`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from tfbundle_serving.apis.comparison import Tolerance
from tfbundle_serving.apis.errors import BundleError, ParityError

from ..client import Client
from ..parity.check import MAX_REQUESTS, check_parity
from ..parity.junit import write_failure_junit, write_junit
from ..parity.measurement import Tolerances
from ..parity.ranking import TOP_K
from .options import (
    Access,
    access_of,
    access_options,
    json_option,
    label_option,
    model_argument,
    one_of,
    signature_option,
    timeout_option,
    url_argument,
)
from .output import print_json
from .parity_output import print_parity
from .version_option import base_path_option, read_version, version_option


class CouldNotCompare(click.ClickException):
    """No verdict: neither equal nor different, which a script must be able to tell apart."""

    exit_code = 2


@click.command()
@url_argument
@model_argument
@click.option("--also", multiple=True, metavar="URL", help="Compare through this address, too; repeatable.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="A golden.npz, a version folder, a base path, .keras or .h5.  [default: models/MODEL]",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    help="Ask both sides these: .npz, .npy or recorded requests; version folders are then run here.",
)
@click.option("--against", metavar="URL", help="Compare with what this server answers.")
@click.option("--against-model", metavar="NAME", help="The model's name there.  [default: MODEL]")
@click.option("--against-version", metavar="NUMBER|TAG", help="Compare with this version, there or at URL.")
@click.option("--against-label", help="A version label instead.")
@version_option
@base_path_option
@label_option
@signature_option
@click.option("--labels", type=click.Path(path_type=Path, exists=True), help="True classes (.npy): report accuracies.")
@click.option("--label-output", help="The output that predicts the labels.")
@click.option(
    "--batch-size", "batch_sizes", type=click.IntRange(1), multiple=True, help="Examples a request; repeatable."
)
@click.option("--rtol", type=click.FloatRange(0), help="Allowed relative difference.  [default: by dtype]")
@click.option("--atol", type=click.FloatRange(0), help="Allowed absolute difference.  [default: by dtype]")
@click.option(
    "--tolerance", "tolerances", multiple=True, metavar="DTYPE=RTOL,ATOL", help="Those of one dtype; repeatable."
)
@click.option("--ptol", type=click.FloatRange(0, 1), default=0.0, help="Share of values that may differ by more.")
@click.option("--across-devices", is_flag=True, help="One side ran on a CPU, the other on a GPU: allow for TF32.")
@click.option("--top-k", type=click.IntRange(1), default=TOP_K, show_default=True, help="Best classes to compare.")
@click.option("--max-requests", type=click.IntRange(1), default=MAX_REQUESTS, show_default=True, help="Of each size.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report with pictures to this file.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML, as CI reads it, to this file.")
@timeout_option("Seconds for each request.")
@access_options
@json_option
def parity(
    url: str,
    model: str,
    also: tuple[str, ...],
    reference: Path | None,
    inputs: Path | None,
    against: str | None,
    against_model: str | None,
    against_version: str | None,
    against_label: str | None,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    signature: str,
    labels: Path | None,
    label_output: str | None,
    batch_sizes: tuple[int, ...],
    rtol: float | None,
    atol: float | None,
    tolerances: tuple[str, ...],
    ptol: float,
    across_devices: bool,
    top_k: int,
    max_requests: int,
    html: Path | None,
    junit: Path | None,
    timeout: float,
    access: Access,
    as_json: bool,
) -> int:
    """Compare the answers of MODEL at URL with those of the model that was trained, or of another version.

    Exit code 0: equal. 1: differs. 2: could not compare.
    """
    one_of(version, label)
    one_of(against_version, against_label, "--against-version")
    tolerance = _read_tolerances(rtol, atol, tolerances)
    is_against = (against, against_version, against_label) != (None, None, None)
    # A model that is run here talks much while it loads.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        wanted = version if base_path is None else read_version(version, base_path)
        tags = base_path or reference or _default_reference(model, is_needed=False)
        other_wanted = read_version(against_version, tags, "--against-version")
        with ExitStack() as stack:
            urls = (url, *also) if against is None else (url, *also, against)
            clients = [
                stack.enter_context(Client(each, timeout=timeout, **access_of(each, access, urls))) for each in urls
            ]
            other = None if against is None else clients.pop()
            report = check_parity(
                clients,
                model,
                reference or base_path or _default_reference(model, is_needed=not is_against),
                inputs=inputs,
                against=other,
                against_model=against_model,
                against_version=other_wanted,
                against_label=against_label,
                version=wanted,
                label=label,
                signature=signature or None,
                labels=None if labels is None else _read_labels(labels),
                label_output=label_output,
                batch_sizes=batch_sizes or None,
                tolerance=tolerance,
                ptol=ptol,
                across_devices=across_devices,
                top_k=top_k,
                max_requests=max_requests,
            )
        if junit is not None:
            write_junit(junit, [report])
        if html is not None:
            from ..parity.report import write_report

            write_report(html, [report])
            print(f"wrote the report to {html}", file=sys.stderr)
        if as_json:
            print_json(report.to_json())
        else:
            print_parity(report)
    except (click.ClickException, BrokenPipeError):
        raise
    except Exception as error:  # also our own faults: 1 would say that the answers differ
        message = _describe(error)
        if junit is not None:
            _write_failure(junit, model, message)
        raise CouldNotCompare(message) from error
    return 0 if report.is_equal else 1


def _describe(error: Exception) -> str:
    if isinstance(error, BundleError | OSError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (a fault of tfbundle's; --debug shows where)"


def _default_reference(model: str, *, is_needed: bool) -> Path | None:
    """Name where the exporter puts models; against another server it only helps where it is there."""
    path = Path("models", model)
    return path if is_needed or path.is_dir() else None


def _read_tolerances(rtol: float | None, atol: float | None, by_dtype: Sequence[str]) -> Tolerances | None:
    if by_dtype and (rtol is not None or atol is not None):
        raise click.UsageError("give --rtol and --atol for all dtypes, or --tolerance for single ones, not both")
    if not by_dtype:
        return None if rtol is None and atol is None else Tolerance(rtol=rtol or 0.0, atol=atol or 0.0)
    found = {}
    for text in by_dtype:
        dtype, _, numbers = text.partition("=")
        try:
            relative, absolute = map(float, numbers.split(","))
            found[dtype] = Tolerance(rtol=relative, atol=absolute)
        except (ValueError, BundleError) as error:
            raise click.UsageError(
                f"--tolerance takes DTYPE=RTOL,ATOL such as float32=1e-4,1e-5, got {text!r}"
            ) from error
    return found


def _read_labels(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ParityError(f"{path} is not a .npy file of class numbers: {error}") from error


def _write_failure(path: Path, model: str, message: str) -> None:
    try:
        write_failure_junit(path, model, message)
    except OSError as error:
        print(f"cannot write {path}: {error.strerror or error}", file=sys.stderr)

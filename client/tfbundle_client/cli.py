"""`tfbundle predict | status | metadata | parity | versions`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from tfbundle_serving.apis.comparison import Tolerance
from tfbundle_serving.apis.errors import BundleError, ParityError
from tfbundle_serving.apis.model_metadata import metadata_to_json
from tfbundle_serving.apis.model_status import status_to_json

from .cli_inputs import Document, read_given
from .cli_output import (
    prediction_to_json,
    print_json,
    print_metadata,
    print_parity,
    print_prediction,
    print_status,
    save_outputs,
)
from .cli_version_option import base_path_option, read_version, version_option
from .cli_versions import versions
from .client import DEFAULT_TIMEOUT_S, Client
from .flows import find_signature
from .parity import MAX_REQUESTS, check_parity

Function = TypeVar("Function", bound=Callable[..., Any])


def main(argv: Sequence[str]) -> int:
    """Run one of the client's commands.

    Args:
        argv: The command's name and its arguments.

    Returns:
        The exit code.
    """
    result = commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False)
    return result if isinstance(result, int) else 0


class CouldNotCompare(click.ClickException):
    """No verdict: neither equal nor different, which a script must be able to tell apart."""

    exit_code = 2


def _timeout(help_text: str, default: float = DEFAULT_TIMEOUT_S) -> Callable[[Function], Function]:
    return click.option(
        "--timeout", type=click.FloatRange(0, min_open=True), default=default, show_default=True, help=help_text
    )


_url = click.argument("url")
_model = click.argument("model")
_label = click.option("--label", help="A version label instead of a number.")
_signature = click.option("--signature", default="", help="Signature name.  [default: serving_default]")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_headers = click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="Send this header, too; repeatable."
)


@click.group(add_help_option=False)
def commands() -> None:
    """Call models that TensorFlow Serving or `tfbundle serve` serves."""


commands.add_command(versions)


@commands.command()
@_url
@_model
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]FILE|JSON|-", help=".npy, .npz, .json, JSON or stdin."
)
@version_option
@base_path_option
@_label
@_signature
@click.option("--outputs", multiple=True, metavar="NAME", help="Only this output; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz, .npy or .json file.")
@click.option("--cast", is_flag=True, help="Round arrays to the signature's dtype (float64 to float32).")
@_timeout("Seconds for the whole call.")
@_headers
@_json
def predict(
    url: str,
    model: str,
    inputs: tuple[str, ...],
    version: str | None,
    base_path: Path | None,
    label: str | None,
    signature: str,
    outputs: tuple[str, ...],
    output: Path | None,
    cast: bool,
    timeout: float,
    headers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Call MODEL at URL, grpc://host:port or http://host:port.

    JSON is TensorFlow Serving's body, {"instances": ...} or {"inputs": ...}, or the bare values of the input.
    """
    _one_of(version, label)
    number = read_version(version, base_path)
    given = read_given(inputs)
    with Client(url, timeout=timeout, headers=_read_headers(headers)) as client:
        ready: Any = given
        if isinstance(given, Document):
            signature = signature or given.signature
            metadata = client.metadata(model, version=number, label=label)
            name = signature or "serving_default"
            ready = given.read(find_signature(metadata, name), name)
        answer = client.predict(
            model,
            ready,
            version=number,
            label=label,
            signature=signature,
            outputs=outputs,
            casting="same_kind" if cast else "safe",
        )
    if output is not None:
        save_outputs(answer, output)
        print(f"wrote {', '.join(answer)} to {output}", file=sys.stderr)
    if as_json:
        print_json(prediction_to_json(answer))
    elif output is None:
        print_prediction(answer)


@commands.command()
@_url
@_model
@version_option
@base_path_option
@_timeout("Seconds to wait for the answer.")
@click.option("--wait", type=click.FloatRange(0, min_open=True), help="Wait up to so many seconds for AVAILABLE.")
@_headers
@_json
def status(
    url: str,
    model: str,
    version: str | None,
    base_path: Path | None,
    timeout: float,
    wait: float | None,
    headers: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show the state of the versions of MODEL at URL; exit code 1 if none is AVAILABLE."""
    number = read_version(version, base_path)
    with Client(url, timeout=timeout, headers=_read_headers(headers)) as client:
        if wait is not None:
            client.wait_until_available(model, version=number, timeout=wait)
        statuses = client.status(model, version=number)
    if as_json:
        print_json(status_to_json(statuses))
    else:
        print_status(model, url, statuses)
    return 0 if any(each.is_available for each in statuses) else 1


@commands.command()
@_url
@_model
@version_option
@base_path_option
@_label
@_timeout("Seconds to wait for the answer.")
@_headers
@_json
def metadata(
    url: str,
    model: str,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    timeout: float,
    headers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the signatures of MODEL at URL: names, dtypes and shapes of inputs and outputs."""
    _one_of(version, label)
    number = read_version(version, base_path)
    with Client(url, timeout=timeout, headers=_read_headers(headers)) as client:
        found = client.metadata(model, version=number, label=label)
    if as_json:
        print_json(metadata_to_json(found))
    else:
        print_metadata(found)


@commands.command()
@_url
@_model
@click.option("--also", multiple=True, metavar="URL", help="Compare through this address, too; repeatable.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="A golden.npz, a version folder or a base path.  [default: models/MODEL]",
)
@version_option
@base_path_option
@_label
@_signature
@click.option("--labels", type=click.Path(path_type=Path, exists=True), help="True classes (.npy): report accuracies.")
@click.option("--label-output", help="The output that predicts the labels.")
@click.option(
    "--batch-size", "batch_sizes", type=click.IntRange(1), multiple=True, help="Examples a request; repeatable."
)
@click.option("--rtol", type=click.FloatRange(0), help="Allowed relative difference.  [default: by dtype]")
@click.option("--atol", type=click.FloatRange(0), help="Allowed absolute difference.  [default: by dtype]")
@click.option("--ptol", type=click.FloatRange(0, 1), default=0.0, help="Share of values that may differ by more.")
@click.option("--max-requests", type=click.IntRange(1), default=MAX_REQUESTS, show_default=True, help="Of each size.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a report with pictures to this file.")
@_timeout("Seconds for each request.")
@_headers
@_json
def parity(
    url: str,
    model: str,
    also: tuple[str, ...],
    reference: Path | None,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    signature: str,
    labels: Path | None,
    label_output: str | None,
    batch_sizes: tuple[int, ...],
    rtol: float | None,
    atol: float | None,
    ptol: float,
    max_requests: int,
    html: Path | None,
    timeout: float,
    headers: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compare the answers of MODEL at URL with those of the model that was trained.

    Exit code 0: equal. 1: differs. 2: could not compare.
    """
    _one_of(version, label)
    tolerance = None if rtol is None and atol is None else Tolerance(rtol=rtol or 0.0, atol=atol or 0.0)
    try:
        wanted = version if base_path is None else read_version(version, base_path)
        with ExitStack() as stack:
            clients = [
                stack.enter_context(Client(each, timeout=timeout, headers=_read_headers(headers)))
                for each in (url, *also)
            ]
            report = check_parity(
                clients,
                model,
                reference or base_path or Path("models", model),
                version=wanted,
                label=label,
                signature=signature or None,
                labels=None if labels is None else _read_labels(labels),
                label_output=label_output,
                batch_sizes=batch_sizes or None,
                tolerance=tolerance,
                ptol=ptol,
                max_requests=max_requests,
            )
        if html is not None:
            from .parity_report import write_report

            write_report(html, [report])
            print(f"wrote the report to {html}", file=sys.stderr)
    except (BundleError, OSError) as error:
        raise CouldNotCompare(str(error)) from error
    if as_json:
        print_json(report.to_json())
    else:
        print_parity(report)
    return 0 if report.is_equal else 1


def _one_of(version: str | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise click.UsageError("give --version or --label, not both")


def _read_headers(pairs: Sequence[str]) -> dict[str, str]:
    headers = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found or not name:
            raise click.UsageError(f"--header takes NAME=VALUE, got {pair!r}")
        headers[name] = value
    return headers


def _read_labels(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ParityError(f"{path} is not a .npy file of class numbers: {error}") from error

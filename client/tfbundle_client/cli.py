"""`tfbundle predict | status | metadata | parity | bench | versions | promote | rollback | canary`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tfbundle_serving.apis.model_metadata import metadata_to_json
from tfbundle_serving.apis.model_status import status_to_json

from .calls.flows import find_signature
from .calls.input_fitting import Casting
from .client import Client
from .commands.bench import bench
from .commands.canary import canary
from .commands.inputs import Document, check_is_there, read_given
from .commands.options import (
    Access,
    access_options,
    json_option,
    label_option,
    model_argument,
    one_of,
    signature_option,
    timeout_option,
    url_argument,
)
from .commands.output import (
    check_output,
    prediction_to_json,
    print_json,
    print_metadata,
    print_prediction,
    print_status,
    save_outputs,
)
from .commands.parity import parity
from .commands.promote import promote
from .commands.prune import prune
from .commands.rollback import rollback
from .commands.version_option import base_path_option, read_version, version_option
from .commands.versions import versions
from .scoring.score import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_IN_FLIGHT,
    Scoring,
    find_table,
    is_finished,
    print_finished,
    print_scored,
    score,
)


def main(argv: Sequence[str]) -> int:
    """Run one of the client's commands.

    Args:
        argv: The command's name and its arguments.

    Returns:
        The exit code.
    """
    # gRPC's core writes what it also says in the error, once for each try.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    result = commands.main(args=list(argv), prog_name="tfbundle", standalone_mode=False)
    return result if isinstance(result, int) else 0


@click.group(add_help_option=False)
def commands() -> None:
    """Call models that TensorFlow Serving or `tfbundle serve` serves."""


commands.add_command(bench)
commands.add_command(canary)
commands.add_command(parity)
commands.add_command(promote)
commands.add_command(prune)
commands.add_command(rollback)
commands.add_command(versions)


@commands.command()
@url_argument
@model_argument
@click.option(
    "--input", "inputs", multiple=True, metavar="[NAME=]FILE|JSON|-", help=".npy, .npz, .json, JSON, stdin; see above."
)
@version_option
@base_path_option
@label_option
@signature_option
@click.option("--outputs", multiple=True, metavar="NAME", help="Only this output; repeatable.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write the outputs to this file: .npz, .npy, .json; see above."
)
@click.option("--batch-size", type=click.IntRange(1), help="Rows a request where a file is scored.  [default: 512]")
@click.option("--in-flight", type=click.IntRange(1), help="Requests at once there.  [default: 4]")
@click.option("--resume", is_flag=True, help="Go on where an earlier run for the same --output stopped.")
@click.option("--cast", is_flag=True, help="Round arrays to the signature's dtype (float64 to float32).")
@timeout_option("Seconds for the whole call.")
@access_options
@json_option
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
    batch_size: int | None,
    in_flight: int | None,
    resume: bool,
    cast: bool,
    timeout: float,
    access: Access,
    as_json: bool,
) -> None:
    """Call MODEL at URL, grpc://host:port or http://host:port.

    JSON is TensorFlow Serving's body, {"instances": ...} or {"inputs": ...}, or the bare values of the input.

    A .npy, .npz, .csv, .parquet or .jsonl of any size is scored in batches into an --output of one of these kinds,
    which appears when it is whole; what is there of it until then stands beside it in OUTPUT.partial.
    """
    one_of(version, label)
    number = read_version(version, base_path)
    casting: Casting = "same_kind" if cast else "safe"
    is_asked = resume or batch_size is not None or in_flight is not None
    table = find_table(inputs, output, batch_size, is_asked=is_asked)
    if table is not None and output is not None:
        scoring = Scoring(
            input=table,
            output=output,
            model=model,
            version=number,
            label=label,
            signature=signature,
            outputs=outputs,
            casting=casting,
            batch_size=batch_size or DEFAULT_BATCH_SIZE,
            in_flight=in_flight or DEFAULT_IN_FLIGHT,
            resume=resume,
        )
        check_is_there(table)
        if is_finished(scoring):
            print_finished(scoring, as_json=as_json)
            return
        with Client(url, timeout=timeout, **access) as client:
            scored = score(client, scoring)
        print_scored(scoring, scored, as_json=as_json)
        return
    if output is not None:
        check_output(output)
    given = read_given(inputs)
    with Client(url, timeout=timeout, **access) as client:
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
            casting=casting,
        )
    if output is not None:
        save_outputs(answer, output)
        print(f"wrote {', '.join(answer)} to {output}", file=sys.stderr)
    if as_json:
        print_json(prediction_to_json(answer))
    elif output is None:
        print_prediction(answer)


@commands.command()
@url_argument
@model_argument
@version_option
@base_path_option
@label_option
@timeout_option("Seconds to wait for the answer.")
@click.option("--wait", type=click.FloatRange(0, min_open=True), help="Wait up to so many seconds for AVAILABLE.")
@access_options
@json_option
def status(
    url: str,
    model: str,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    timeout: float,
    wait: float | None,
    access: Access,
    as_json: bool,
) -> int:
    """Show the state of the versions of MODEL at URL; exit code 1 if none is AVAILABLE."""
    one_of(version, label)
    number = read_version(version, base_path)
    with Client(url, timeout=timeout, **access) as client:
        if wait is not None:
            client.wait_until_available(model, version=number, label=label, timeout=wait)
        statuses = client.status(model, version=number, label=label)
    if as_json:
        print_json(status_to_json(statuses))
    else:
        print_status(model, url, statuses)
    return 0 if any(each.is_available for each in statuses) else 1


@commands.command()
@url_argument
@model_argument
@version_option
@base_path_option
@label_option
@timeout_option("Seconds to wait for the answer.")
@access_options
@json_option
def metadata(
    url: str,
    model: str,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    timeout: float,
    access: Access,
    as_json: bool,
) -> None:
    """Show the signatures of MODEL at URL: names, dtypes and shapes of inputs and outputs."""
    one_of(version, label)
    number = read_version(version, base_path)
    with Client(url, timeout=timeout, **access) as client:
        found = client.metadata(model, version=number, label=label)
    if as_json:
        print_json(metadata_to_json(found))
    else:
        print_metadata(found)

"""`tfbundle bench`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from numpy.typing import NDArray

from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature

from ..bench.load import DEFAULT_RATE, Arrivals, Load
from .options import (
    Access,
    access_options,
    label_option,
    model_argument,
    one_of,
    signature_option,
    timeout_option,
    url_argument,
)
from .version_option import base_path_option, read_version, version_option

if TYPE_CHECKING:
    from ..bench.run import BenchResult, ChooseInputs
    from .inputs import Given

_seconds = click.FloatRange(0, min_open=True)


@click.command()
@url_argument
@model_argument
@click.option("--rate", type=_seconds, help=f"Open loop: requests a second.  [default: {DEFAULT_RATE:g}]")
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    help="Open loop: send evenly, or as independent users do.  [default: constant]",
)
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop instead: so many requests in flight.")
@click.option("--duration", type=_seconds, default=10.0, show_default=True, help="Seconds that are measured.")
@click.option("--warm-up", type=click.FloatRange(0), default=2.0, show_default=True, help="Seconds before those.")
@timeout_option("Seconds that a request may take.", default=10.0)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE|JSON|-",
    help="What each request carries.  [default: drawn at random from the signature]",
)
@click.option("--rows", type=click.IntRange(1), help="Examples a request.  [default: those of --input, or 1]")
@click.option("--seed", type=int, default=0, show_default=True, help="For drawn inputs and Poisson arrivals.")
@version_option
@base_path_option
@label_option
@signature_option
@click.option("--sweep", is_flag=True, help="Search for the highest rate that keeps --p99-ms, from --rate on.")
@click.option("--p99-ms", type=_seconds, help="The bound of --sweep.")
@access_options
@click.option("--allow-remote", is_flag=True, help="Load another machine than this one.")
@click.option(
    "--json", "json_file", is_flag=False, flag_value="-", metavar="FILE|-", help="Write a JSON document; - prints it."
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with the latency curve to this file.")
def bench(
    url: str,
    model: str,
    rate: float | None,
    arrivals: Arrivals | None,
    concurrency: int | None,
    duration: float,
    warm_up: float,
    timeout: float,
    inputs: tuple[str, ...],
    rows: int | None,
    seed: int,
    version: str | None,
    base_path: Path | None,
    label: str | None,
    signature: str,
    sweep: bool,
    p99_ms: float | None,
    access: Access,
    allow_remote: bool,
    json_file: str | None,
    html: Path | None,
) -> int:
    """Measure how MODEL at URL answers under load.

    By default an open loop: requests are sent at fixed moments whatever has come back, and their latency counts from
    these moments. Exit code 0: measured. 1: no request was answered, or no rate keeps the bound. Ctrl-C ends early and
    shows what there is.
    """
    one_of(version, label)
    if concurrency is not None and (rate is not None or arrivals is not None or sweep):
        raise click.UsageError("--concurrency is a closed loop; --rate, --arrivals and --sweep go with an open one")
    if sweep != (p99_ms is not None):
        raise click.UsageError("--sweep and --p99-ms go together")
    from ..bench.run import Sweep, run_bench
    from ..bench.sweep import highest
    from ..bench.target import check_is_local
    from ..bench.text import step_line
    from ..transports.address import parse_address
    from ..transports.connection import Connection
    from .inputs import Document, read_given

    load = Load(
        rate=DEFAULT_RATE if rate is None else rate,
        arrivals=arrivals or "constant",
        concurrency=concurrency,
        duration_s=duration,
        warm_up_s=warm_up,
        timeout_s=timeout,
        seed=seed,
    )
    given = read_given(inputs) if inputs else None
    if isinstance(given, Document):
        signature = signature or given.signature
    spec = ModelSpec(model, read_version(version, base_path), label, signature)
    address = parse_address(url)
    if address.transport not in ("gRPC", "REST"):
        raise click.UsageError(f"a load test needs a server, and {url} is none")
    if not allow_remote:
        check_is_local(address)
    _say(f"{'search' if sweep else load}: {warm_up:g} s warm-up, {duration:g} s{' a step' if sweep else ''}")
    result = run_bench(
        address,
        Connection(**access),
        spec,
        load,
        _chooser(given, rows, seed),
        sweep=None if p99_ms is None else Sweep(p99_s=p99_ms / 1e3, on_step=lambda step: _say(step_line(step))),
    )
    _show(result, json_file, html)
    if result.was_interrupted:
        return 130
    if sweep:
        return 0 if highest(result.steps) is not None else 1
    return 0 if result.measurement is not None and result.measurement.latencies.count else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _chooser(given: Given | None, rows: int | None, seed: int) -> ChooseInputs:
    from ..bench.inputs import draw_inputs, take_rows
    from ..calls.input_fitting import fit_inputs
    from .inputs import Document

    if given is None:
        return lambda signature, _: draw_inputs(signature, rows or 1, seed)

    def choose(signature: Signature, name: str) -> dict[str, NDArray[Any]]:
        values: Any = given.read(signature, name) if isinstance(given, Document) else given
        fitted = dict(fit_inputs(values, signature))
        return fitted if rows is None else take_rows(fitted, rows)

    return choose


def _show(result: BenchResult, json_file: str | None, html: Path | None) -> None:
    """Print first, so that a file that cannot be written costs no figures."""
    text = "" if json_file is None else json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n"
    if json_file == "-":
        print(text, end="")
    else:
        from ..bench.text import print_result

        print_result(result)
        if json_file is not None:
            Path(json_file).write_text(text, encoding="utf-8")
            _say(f"wrote {json_file}")
    if html is not None:
        from ..bench.page import render_page

        html.write_text(render_page(result), encoding="utf-8")
        _say(f"wrote the page to {html}")

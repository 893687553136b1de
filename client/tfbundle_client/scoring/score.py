"""`tfbundle predict --input big.csv --output scores.npy`: files of any size, in batches, with progress, resumable."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from tfbundle_serving.apis.errors import BundleError, InvalidArgument

from ..calls.flows import find_signature
from ..calls.input_fitting import Casting
from ..client import Client
from ..commands.output import print_json
from .partial_file import PartialFile, partial_folder
from .progress import open_progress
from .readers import ENDINGS, count_rows, read_batches

DEFAULT_BATCH_SIZE, DEFAULT_IN_FLIGHT = 512, 4
#: Files that hold a whole request as well; they are scored when they have more rows than a batch.
_SMALL = (".npy", ".npz")
#: How often the work so far is noted, in seconds.
_KEEP_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """One file to score.

    Attributes:
        input: The rows.
        output: Where the answers go.
        model: Model name.
        version: A version; None means the highest that is AVAILABLE.
        label: A version label; not together with a version.
        signature: Signature name; "" means serving_default.
        outputs: Names of the wanted outputs; empty means all.
        casting: Which casts are done.
        batch_size: Rows in a message at most.
        in_flight: Messages on their way at once.
        resume: Go on where an earlier run stopped.
    """

    input: Path
    output: Path
    model: str
    version: int | None = None
    label: str | None = None
    signature: str = ""
    outputs: Sequence[str] = ()
    casting: Casting = "safe"
    batch_size: int = DEFAULT_BATCH_SIZE
    in_flight: int = DEFAULT_IN_FLIGHT
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What came of it.

    Attributes:
        version: The version that answered.
        rows: Rows in the file.
        resumed_at: How many of them an earlier run had answered.
        seconds: How long this run took.
    """

    version: int
    rows: int
    resumed_at: int
    seconds: float


def find_table(inputs: Sequence[str], output: Path | None, batch_size: int | None, *, is_asked: bool) -> Path | None:
    """Tell whether a file is to be scored in batches, and which.

    Args:
        inputs: The values of --input.
        output: The value of --output.
        batch_size: The value of --batch-size.
        is_asked: Whether an option was given that only scoring has.

    Returns:
        The file; None where the input is one request.

    Raises:
        click.UsageError: It can be no request, and does not say where the answers go.
    """
    path = Path(inputs[0]) if len(inputs) == 1 else None
    if path is None or path.suffix not in ENDINGS or "=" in inputs[0]:
        if is_asked:
            raise click.UsageError(f"a file is scored in batches: give one --input, {' or '.join(ENDINGS)}")
        return None
    if output is None or output.suffix not in ENDINGS:
        if is_asked or (path.suffix not in _SMALL and path.exists()):
            raise click.UsageError(
                f"{path} is scored into a file: --output {'|'.join(ENDINGS)}, got {output or 'no --output'}"
            )
        return None
    if is_asked or path.suffix not in _SMALL or output.suffix not in _SMALL:
        return path
    rows = _rows_if_any(path)
    return path if rows is not None and rows > (batch_size or DEFAULT_BATCH_SIZE) else None


def _rows_if_any(path: Path) -> int | None:
    """Count a file's rows; what is wrong with it is said by whoever reads it."""
    try:
        return count_rows(path)
    except (BundleError, OSError):
        return None


def is_finished(scoring: Scoring) -> bool:
    """Tell whether there is nothing to go on with: the whole file is there, written after its input."""
    try:
        written_ns, given_ns = scoring.output.stat().st_mtime_ns, scoring.input.stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return scoring.resume and written_ns >= given_ns and not partial_folder(scoring.output).exists()


def score(client: Client, scoring: Scoring) -> Scored:
    """Score a file.

    Raises:
        BundleError: It could not be done; the message says what is kept of it.
        OSError: A file cannot be read or written.
    """
    started_s = time.monotonic()
    metadata = client.metadata(scoring.model, version=scoring.version, label=scoring.label)
    name = scoring.signature or "serving_default"
    signature = find_signature(metadata, name)
    stat = scoring.input.stat()
    identity = {
        "input": [str(scoring.input.resolve()), stat.st_size, stat.st_mtime_ns],
        "model": scoring.model,
        "version": metadata.version,
        "signature": name,
        "outputs": list(scoring.outputs),
        "casting": scoring.casting,
    }
    total = count_rows(scoring.input)
    with closing(PartialFile(scoring.output, identity, resume=scoring.resume)) as partial:
        resumed_at = partial.rows
        batches = read_batches(scoring.input, signature, batch_size=scoring.batch_size, first_row=resumed_at)
        answers = client.predict_batches(
            scoring.model,
            batches,
            batch_size=scoring.batch_size,
            in_flight=scoring.in_flight,
            version=metadata.version,
            signature=scoring.signature,
            outputs=scoring.outputs,
            casting=scoring.casting,
            first_row=resumed_at,
        )
        try:
            with closing(answers), open_progress(scoring.output.name, total, resumed_at) as progress:
                kept_at_s = started_s
                for answer in answers:
                    partial.append(answer.outputs, answer.rows)
                    progress.reach(partial.rows)
                    if time.monotonic() - kept_at_s > _KEEP_EVERY_S:
                        partial.keep()
                        kept_at_s = time.monotonic()
            if partial.rows == 0:
                raise InvalidArgument(f"{scoring.input} has no rows", attempts=0)
            partial.finish()
        except BaseException:
            partial.keep()
            if partial.kept_rows:
                print(
                    f"{partial.kept_rows:,} rows are kept in {partial.folder}: --resume goes on there", file=sys.stderr
                )
            else:
                partial.discard()
            raise
    return Scored(
        version=metadata.version, rows=partial.rows, resumed_at=resumed_at, seconds=time.monotonic() - started_s
    )


def print_finished(scoring: Scoring, *, as_json: bool) -> None:
    """Say that nothing was left to do; which version answered is not known any more."""
    print(f"{scoring.output} is whole already, nothing was done; run without --resume to score anew", file=sys.stderr)
    if as_json:
        rows = count_rows(scoring.output)
        _print_document(scoring, version=None, rows=rows, resumed_at=rows, seconds=0.0)


def print_scored(scoring: Scoring, scored: Scored, *, as_json: bool) -> None:
    """Say what was scored: a line for a person on standard error, or one JSON document."""
    rate = (scored.rows - scored.resumed_at) / scored.seconds
    print(
        f"wrote {scored.rows:,} rows of {scoring.model} version {scored.version} to {scoring.output} "
        f"in {scored.seconds:.1f} s ({rate:,.0f} rows/s)",
        file=sys.stderr,
    )
    if as_json:
        _print_document(
            scoring, version=scored.version, rows=scored.rows, resumed_at=scored.resumed_at, seconds=scored.seconds
        )


def _print_document(
    scoring: Scoring, *, version: int | None, rows: int | None, resumed_at: int | None, seconds: float
) -> None:
    print_json(
        {
            "model": scoring.model,
            "version": version,
            "signature": scoring.signature or "serving_default",
            "rows": rows,
            "resumed_at": resumed_at,
            "seconds": seconds,
            "output": str(scoring.output),
        }
    )

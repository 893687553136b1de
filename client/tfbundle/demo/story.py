"""The demo's steps in order, each through what a user would call, each told in a line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tfbundle_client import Client, ParityReport, check_parity
from tfbundle_client.parity.report import write_report
from tfbundle_serving.apis.errors import BundleError
from tfbundle_serving.apis.golden import Golden
from tfbundle_serving.apis.model_status import State

from .processes import Children, wait_for_file
from .traffic import Tally, Traffic, tally

MODEL = "digits"
EPOCHS = (8, 8)
#: How long requests go on once the new version has begun to answer, in seconds.
AFTERGLOW_S = 1.0
SERVER_START_S = 90.0


@dataclass(frozen=True, slots=True)
class Trained:
    """One training's results, as the training script left them."""

    h5: Path
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def accuracy(self) -> float:
        """Share of the test set that the trained model gets right."""
        return float(np.mean(self.probabilities.argmax(axis=1) == self.labels))

    @property
    def reference(self) -> Golden:
        """What the served answers are held against."""
        return Golden({"image": self.images}, {"probabilities": self.probabilities})


@dataclass(frozen=True, slots=True)
class Served:
    """The running server and where it listens."""

    process: subprocess.Popen[bytes]
    urls: Mapping[str, str]


class Teller:
    """Says what is being done, on a terminal, and prints each step when it is done, numbered, with its time."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._doing = self._console.status("")
        self._number = 0
        self._since = time.monotonic()

    def __enter__(self) -> Teller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._doing.stop()

    def doing(self, text: str) -> None:
        """Say what comes next; where nobody looks (a file, a pipe) nothing is said."""
        self._doing.update(f"{text} ...")
        self._doing.start()

    def step(self, text: str) -> None:
        """Tell what was just done."""
        self._doing.stop()
        now = time.monotonic()
        self._number += 1
        self._console.print(f"[bold]{self._number}[/bold]  {text}  [dim]({now - self._since:.1f} s)[/dim]")
        self._since = now

    def show(self, what: Any) -> None:
        """Print a table, or lines that are no step."""
        self._console.print(what)


def run(folder: Path) -> None:
    """Run the whole path below a folder that is empty.

    Raises:
        BundleError: A step failed, or a served answer was not what was trained.
    """
    logs = folder / "logs"
    logs.mkdir()
    base_path = folder / "models" / MODEL
    with Children() as children, Teller() as tell:
        tell.doing("training")
        first = _train(children, folder / "training-1", logs, resume=None)
        tell.step(f"trained a CNN on 1,257 handwritten digits: test accuracy {first.accuracy:.4f}; saved {first.h5}")

        tell.doing("exporting")
        _export(children, first.h5, base_path, folder / "training-1", logs)
        tell.step(f"exported {first.h5} to {base_path / '1'}: {_describe(base_path / '1')}")

        tell.doing("starting the server")
        served = _serve(children, folder, logs)
        with Client(served.urls["gRPC"]) as client:
            client.wait_until_available(MODEL, version=1, timeout=SERVER_START_S)
        tell.step(f"started `tfbundle serve` at {' and '.join(served.urls.values())}: version 1 is AVAILABLE")

        tell.doing("comparing")
        before = _compare(served, first, version=1)
        tell.step(f"sent the {before.examples} test images over REST and gRPC to version 1: {_verdict(before)}")
        tell.show(_table(before))

        tell.doing("training on and exporting version 2 while requests keep flowing")
        traffic = Traffic(served.urls, MODEL, first.images)
        traffic.start()
        second = _train(children, folder / "training-2", logs, resume=first.h5)
        _export(children, second.h5, base_path, folder / "training-2", logs)
        counted = _roll_over(served, traffic, {1: first.probabilities, 2: second.probabilities})
        tell.step(f"trained on (test accuracy {second.accuracy:.4f}) and exported version 2 under traffic: {counted}")

        tell.doing("comparing")
        after = _compare(served, second, version=2)
        tell.step(f"sent the test images to version 2: {_verdict(after)}")
        tell.show(_table(after))

        page = folder / "parity.html"
        write_report(page, [before, after])
        code = children.stop(served.process)
        tell.step(f"wrote {page} and stopped the server (exit code {code})")
        tell.show(_next_steps(folder, page))
    for report in (before, after):
        if not report.is_equal:
            raise BundleError(f"{MODEL} version {report.version} does not answer like the trained model; see {page}")


def _train(children: Children, folder: Path, logs: Path, resume: Path | None) -> Trained:
    arguments = ["tfbundle.demo.training", str(folder), f"--epochs={EPOCHS[1 if resume else 0]}"]
    children.run([*arguments, *([f"--resume={resume}"] if resume else [])], logs / f"{folder.name}.log")
    return Trained(
        folder / "digits.h5",
        np.load(folder / "test_images.npy"),
        np.load(folder / "test_labels.npy"),
        np.load(folder / "test_probabilities.npy"),
    )


def _export(children: Children, h5: Path, base_path: Path, training: Path, logs: Path) -> None:
    examples = training / "test_images.npy"
    arguments = ["tfbundle", "export", str(h5), str(base_path), f"--examples={examples}"]
    children.run(arguments, logs / f"export-{training.name}.log")


def _describe(version: Path) -> str:
    """Say what an exported version folder holds, from its metadata.json."""
    metadata = json.loads((version / "metadata.json").read_text())
    names = ", ".join(
        f"{name}({', '.join(each['inputs'])}) -> {', '.join(each['outputs'])}"
        for name, each in metadata["signatures"].items()
    )
    return f"{names}, metadata.json, golden.npz, warm-up; max abs difference {metadata['parity']['max_abs_diff']:.1e}"


def _serve(children: Children, folder: Path, logs: Path) -> Served:
    ports_file, log = folder / "ports.json", logs / "serve.log"
    arguments = ["tfbundle", "serve", str(folder / "models"), "--port=auto", "--rest_api_port=auto"]
    process = children.start([*arguments, f"--ports_file={ports_file}"], log)
    wait_for_file(ports_file, process, log, SERVER_START_S)
    ports = json.loads(ports_file.read_text())
    urls = {"REST": f"http://127.0.0.1:{ports['rest']}", "gRPC": f"grpc://127.0.0.1:{ports['grpc']}"}
    return Served(process, urls)


def _compare(served: Served, trained: Trained, version: int) -> ParityReport:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(url)) for url in served.urls.values()]
        return check_parity(clients, MODEL, trained.reference, version=version, labels=trained.labels)


def _roll_over(served: Served, traffic: Traffic, expected: Mapping[int, NDArray[np.float32]]) -> Tally:
    """Wait until version 2 has taken over and version 1 is gone, stop the traffic, and count."""
    with Client(served.urls["gRPC"]) as client:
        client.wait_until_available(MODEL, version=2, timeout=60)
        deadline = time.monotonic() + 60
        while client.status(MODEL, version=1)[0].state is not State.END:
            if time.monotonic() > deadline:
                raise BundleError(f"{MODEL} version 1 was not unloaded within 60 s of version 2's arrival")
            time.sleep(0.1)
    time.sleep(AFTERGLOW_S)
    counted = tally(traffic.stop(), expected)
    if not counted.is_clean:
        raise BundleError(f"the traffic did not move cleanly from version 1 to 2: {counted}")
    return counted


def _verdict(report: ParityReport) -> str:
    return "equal to the trained model" if report.is_equal else "NOT equal to the trained model"


def _table(report: ParityReport) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("   transport", no_wrap=True)
    for heading in ("max abs", "max rel", "argmax", "acc. local", "acc. served", "examples/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in report.transports:
        agreement = each.argmax_agreement
        table.add_row(
            f"   {each.transport}",
            f"{each.max_abs_diff:.1e}",
            f"{each.max_rel_diff:.1e}",
            "-" if agreement is None else f"{agreement:.2%}",
            f"{report.accuracy_local:.4f}",
            f"{each.accuracy:.4f}",
            f"{each.examples_per_second:,.0f}",
        )
    return table


def _next_steps(folder: Path, page: Path) -> str:
    models, command = folder / "models", _command()
    return (
        f"\nThe report lies in {page}; open it in a browser. What to type next:\n\n"
        f"  {command} serve {models}\n"
        f"  {command} status http://localhost:8501 {MODEL}\n"
        f"  {command} parity grpc://localhost:8500 {MODEL} --reference {models / MODEL}\n"
        f"  {command} export model.h5 models/my_model\n"
    )


def _command() -> str:
    """Name the command as this shell finds it; after `make demo` it lies in .venv and not on the PATH."""
    if shutil.which("tfbundle"):
        return "tfbundle"
    script = Path(sys.executable).with_name("tfbundle")
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)

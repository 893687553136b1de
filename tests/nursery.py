"""Processes of `tfbundle` for tests, forked from one that has imported TensorFlow: three seconds saved for each.

What is forked runs the same command as a shell would start, with its own environment, folder, files and exit code.
That `python -m tfbundle` itself starts is what tests/serving/test_cli.py and tests/exporter/test_cli.py show.

Run as a script this is the process that forks. It reads one JSON object a line, {"arguments", "out", "errors",
"environment", "directory", "exit_file"}, answers with the child's pid, and writes each child's exit code to its exit
file. Arguments that begin with -c or -m are Python's own. It ends when its standard input does. What it forks to export
finds a fork server for its gate, which is the nursery's and has imported TensorFlow, too.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO


class ForkedProcess:
    """A child of the nursery, with the face of `subprocess.Popen` as far as tests use it."""

    def __init__(self, pid: int, exit_file: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._exit_file = exit_file

    def poll(self) -> int | None:
        """Give the exit code, negative for a signal; None while the process runs."""
        if self.returncode is None and self._exit_file.exists():
            self.returncode = int(self._exit_file.read_text())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and give the exit code."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            # It may have ended a moment ago; the nursery has then taken its code.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None, timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `tfbundle`, or Python with -c or -m, to its end, as `subprocess.run` would; what takes too long is killed."""
    with tempfile.TemporaryDirectory() as scratch:
        out, errors = Path(scratch, "out"), Path(scratch, "errors")
        process = NURSERY.start(arguments, out, environment, errors=errors, folder=folder)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess([*arguments], code, out.read_text(), errors.read_text())


class Nursery:
    """The process that forks; started when it is first needed, once for each test process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(
        self,
        arguments: Sequence[str],
        out: Path,
        environment: Mapping[str, str],
        *,
        errors: Path | None = None,
        folder: Path | None = None,
    ) -> ForkedProcess:
        """Start `tfbundle` with arguments.

        Args:
            arguments: What follows the program's name; where that begins with -c or -m, Python's.
            out: What it prints goes there.
            environment: Variables besides those of this process.
            errors: Where stderr goes; None means `out`.
            folder: Where it stands; None means where this process does.
        """
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, str(Path(__file__))]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
            )
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        exit_file = out.with_suffix(".exit")
        order = {
            "arguments": list(arguments),
            "out": str(out),
            "errors": str(errors or out),
            "environment": {**os.environ, **environment},
            "directory": str(folder or Path.cwd()),
            "exit_file": str(exit_file),
        }
        print(json.dumps(order), file=asked, flush=True)
        return ForkedProcess(int(answers.readline()), exit_file)


NURSERY = Nursery()

#: First arguments of what is likely to need the gate.
_EXPORTING = ("export", "-c")


def _become(order: Mapping[str, object]) -> None:
    """In the child: be the process that was ordered. Does not return."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        os.chdir(str(order["directory"]))
        os.environ.clear()
        os.environ.update(order["environment"])  # type: ignore[call-overload]
        written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for number, path, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, str(order["out"]), written),
            (2, str(order["errors"]), written),
        ):
            descriptor = os.open(path, flags, 0o644)
            os.dup2(descriptor, number)
            os.close(descriptor)
        arguments: list[str] = order["arguments"]  # type: ignore[assignment]
        code = _run_python(arguments) if arguments[0] in ("-c", "-m") else _run_tfbundle(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run_tfbundle(arguments: list[str]) -> int:
    sys.argv = ["tfbundle", *arguments]
    code: int = importlib.import_module("tfbundle.cli").main(arguments)
    return code


def _run_python(arguments: list[str]) -> int:
    """Run a text or a module as Python does; an error is shown by whoever called."""
    kind, what, *rest = arguments
    sys.path.insert(0, "" if kind == "-c" else str(Path.cwd()))
    sys.argv = [kind, *rest]
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            module = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), module.__dict__)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _bury(exit_files: dict[int, Path]) -> None:
    """Write down the exit codes of children that have ended."""
    while exit_files:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        path = exit_files.pop(pid, None)
        if path is None:  # the gate's fork server had nothing to do for a while
            continue
        # The folder may be gone already, and with it whoever wanted to know.
        with contextlib.suppress(OSError):
            written = path.with_suffix(".exit-new")
            written.write_text(str(os.waitstatus_to_exitcode(status)))
            written.rename(path)


def _have_gate_server() -> None:
    """Start the server that the gate's process is a fork of, or keep it from thinking that nobody needs it."""
    from tfbundle_exporter.fresh_process import FreshProcess
    from tfbundle_exporter.pipeline import _GATE_ENVIRONMENT

    FreshProcess("nothing", environment=_GATE_ENVIRONMENT, preload=("tensorflow",), is_usual=True).close()


def main(orders: IO[bytes]) -> None:
    """Fork a child for each order until they end."""
    for name in ("tensorflow", "tfbundle.cli", "tfbundle_serving.cli", "tfbundle_serving.server.servable"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    # So that a child's end wakes `select`.
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    exit_files: dict[int, Path] = {}
    while True:
        ready: list[object] = [*select.select([orders.fileno(), woken], [], [])[0]]
        if woken in ready:
            os.read(woken, 1024)
        _bury(exit_files)
        if orders.fileno() in ready:
            line = orders.readline()
            if not line:
                return
            order = json.loads(line)
            if order["arguments"][0] in _EXPORTING:
                _have_gate_server()
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(woken)
                os.close(wakes)
                _become(order)
            exit_files[pid] = Path(order["exit_file"])
            print(pid, flush=True)


if __name__ == "__main__":
    main(os.fdopen(os.dup(0), "rb", buffering=0))

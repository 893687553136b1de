"""Kills exporters at chosen moments; run as a program by test_killed.py.

    python kill_exporter.py BASE_PATH MOMENTS

TensorFlow is imported once, then each exporter is a fork of this process. One runs through and counts the calls by
which it touches the base path (Python's audit events), the others are killed by SIGKILL just before one of those calls,
or when a file of TensorFlow's own appears. A line of JSON is printed for each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tfbundle_exporter
from tfbundle_exporter.runtime import import_keras

#: Events that touch files; the exclusive rename itself goes through ctypes.
WATCHED = {
    *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir"),
    *("shutil.rmtree", "fcntl.flock", "ctypes.dlopen", "ctypes.dlsym", "pathlib.Path.glob"),
}
#: Files whose appearance is a moment, too: TensorFlow writes them in C++.
APPEARING = ("variables", "variables/variables.index", "saved_model.pb", "fingerprint.pb")


def export(base: Path, prepare: Callable[[], None] | None = None) -> None:
    """Export a model of a few hundred kilobytes, after preparing its end."""
    if prepare is not None:
        prepare()
    keras = import_keras()
    model = keras.Sequential([keras.Input((64,), name="x"), keras.layers.Dense(1024), keras.layers.Dense(2, name="y")])
    tfbundle_exporter.export_model(model, base)


def count_events(base: Path, act: Callable[[int, str], None]) -> None:
    """Call `act` with number and name of each event that touches the base path."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in WATCHED:
            return
        if event.startswith("ctypes") and "rename" not in str(arguments[-1]):
            return
        if not event.startswith(("fcntl", "ctypes")) and str(base) not in str(arguments[0]):
            return
        act(seen, event)
        seen += 1

    sys.addaudithook(hook)


def kill_when(base: Path, name: str) -> None:
    """Kill this process once that file is in its staging folder."""

    def watch() -> None:
        while not list(base.glob(f".staging-*/version/{name}")):
            time.sleep(0.0002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def forked(work: Callable[[], None]) -> int:
    """Run something in a fork and give the status it ended with."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def report(base: Path, moment: str, status: int) -> None:
    """Print what is there after an exporter ended."""
    versions = sorted(path.name for path in base.iterdir() if path.name.isdigit())
    leftovers = len(list(base.glob(".staging-*")))
    print(json.dumps({"moment": moment, "status": status, "versions": versions, "leftovers": leftovers}), flush=True)


def main(base: Path, moments: int) -> None:
    """Run one exporter to its end, then kill others at moments spread over the whole run."""
    import_keras()
    events = base.parent / "events"

    def record() -> None:
        with events.open("w", buffering=1) as file:
            count_events(base, lambda _, name: print(name, file=file))
            export(base)

    report(base, "none", forked(record))
    names = events.read_text().split()

    def die_at(number: int) -> Callable[[int, str], None]:
        def act(seen: int, _: str) -> None:
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        return act

    for place in range(moments):
        # The last event lies behind the rename.
        number = (len(names) - 1) * place // (moments - 1)
        status = forked(partial(export, base, partial(count_events, base, die_at(number))))
        report(base, f"before {number} of {len(names)}: {names[number]}", status)
    for name in APPEARING:
        report(base, f"when {name} appeared", forked(partial(export, base, partial(kill_when, base, name))))
    report(base, "none", forked(partial(export, base)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

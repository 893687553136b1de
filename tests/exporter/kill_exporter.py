"""Kills exporters at chosen moments; run as a program by test_killed.py.

    python kill_exporter.py BASE_PATH

TensorFlow is imported once, then each exporter is a fork of this process. One runs through. Then forks that publish a
copy of what it made are killed by SIGKILL just before each of the calls by which they touch the base path (Python's
audit events): they need no TensorFlow and take milliseconds. Last, whole exporters are killed when a file of
TensorFlow's own appears, and while the gate is at work in its own process. A line of JSON is printed for each.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tfbundle_exporter
from tfbundle_exporter.publishing.base_path import staging_folder
from tfbundle_exporter.publishing.publish import publish
from tfbundle_exporter.runtime import import_keras

#: Events that touch files; the exclusive rename itself goes through ctypes.
WATCHED = {
    *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir"),
    *("shutil.rmtree", "fcntl.flock", "ctypes.dlopen", "ctypes.dlsym", "pathlib.Path.glob"),
}
#: Files whose appearance is a moment, too. TensorFlow writes the first two in C++; the gate follows on the last.
APPEARING = ("variables/variables.index", "saved_model.pb", "assets.extra/golden.npz")
#: From sys/prctl.h: processes whose parent died become children of this one.
_PR_SET_CHILD_SUBREAPER = 36

Prepare = Callable[[], None]


def export(base: Path, prepare: Prepare | None = None) -> None:
    """Export a model of a few hundred kilobytes, after preparing its end."""
    if prepare is not None:
        prepare()
    keras = import_keras()
    model = keras.Sequential([keras.Input((64,), name="x"), keras.layers.Dense(1024), keras.layers.Dense(2, name="y")])
    tfbundle_exporter.export_model(model, base)


def publish_copy(made: Path, base: Path, prepare: Prepare) -> None:
    """Publish a copy of a version, after preparing its end."""
    content = json.loads((made / "metadata.json").read_text())
    prepare()
    with staging_folder(base) as staged:
        shutil.copytree(made, staged, ignore=shutil.ignore_patterns("metadata.json"))
        publish(staged, base, version=None, metadata=lambda number: json.dumps(content | {"version": number}).encode())


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


def sweep(base: Path) -> None:
    """Clean up after the one that was killed before, as every exporter does."""
    with staging_folder(base):
        pass


def kill_when(base: Path, name: str) -> None:
    """Kill this process once that file is in its staging folder."""
    sweep(base)  # or it would be the predecessor's file that is seen

    def watch() -> None:
        while not list(base.glob(f".staging-*/version/{name}")):
            time.sleep(0.0002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def kill_at(base: Path, number: int) -> None:
    """Kill this process just before the event of that number."""
    sweep(base)  # so that the events are those of the run that was counted

    def act(seen: int, _: str) -> None:
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    count_events(base, act)


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


def orphans() -> int:
    """Wait until every process that a killed exporter left behind has ended by itself; give how many there were."""
    count = 0
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return count
        count += 1


def report(base: Path, moment: str, status: int) -> None:
    """Print what is there after an exporter ended."""
    versions = sorted(path.name for path in base.iterdir() if path.name.isdigit())
    leftovers = len(list(base.glob(".staging-*")))
    print(json.dumps({"moment": moment, "status": status, "versions": versions, "leftovers": leftovers}), flush=True)


def main(base: Path) -> None:
    """Run one exporter to its end, kill others at every moment, and run one more."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    import_keras()
    report(base, "none", forked(partial(export, base)))
    made = base.parent / "made"
    shutil.copytree(base / "1", made)

    events = base.parent / "events"
    with events.open("w", buffering=1) as file:
        record = partial(count_events, base, lambda _, name: print(name, file=file))
        report(base, "none", forked(partial(publish_copy, made, base, record)))
    names = events.read_text().split()
    for number, name in enumerate(names):
        status = forked(partial(publish_copy, made, base, partial(kill_at, base, number)))
        report(base, f"before {number} of {len(names)}: {name}", status)
    for name in APPEARING:
        report(base, f"when {name} appeared", forked(partial(export, base, partial(kill_when, base, name))))
    print(json.dumps({"orphans": orphans()}), flush=True)
    report(base, "none", forked(partial(export, base)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What the process writes to stderr: its log, what a person is told, and not what C++ libraries greet with."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def set_up_logging(prefix: str = "") -> None:
    """Write what this package logs to stderr, in the form of the command line.

    Args:
        prefix: Stands before every message.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {prefix}%(message)s", datefmt="%H:%M:%S"))
    room = logging.getLogger(__name__.partition(".")[0])
    room.handlers[:] = [handler]
    room.setLevel(logging.INFO)
    for foreign in ("tensorflow", "uvicorn"):
        logging.getLogger(foreign).setLevel(logging.ERROR)


def say(line: str) -> None:
    """Tell a person something; where stderr is a file on a full disk, nobody is told and the server goes on."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep C++ libraries from writing to stderr; what they wrote is shown if the block fails.

    TensorFlow's import greets with lines on processor features that no log level suppresses, because they come before
    its logging is set up.
    """
    try:
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    except OSError:  # a full disk: better noise than no server
        yield
        return
    kept = os.dup(2)
    with said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            with contextlib.suppress(OSError):
                os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)

"""Work in a Python process of its own: a clean TensorFlow, an environment that is chosen, a crash that stays outside.

The gate runs there so that it sees what a server sees, the folder alone; a user's model factory runs there because
TF_USE_LEGACY_KERAS is read once in a process. What goes in and out is pickled, between two processes of ours only.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from tfbundle_serving.apis.errors import BundleError, ExportError

from . import fork_server
from .fork_server import Forked
from .reasons import reason_of

logger = logging.getLogger(__name__)

_CODE = "from tfbundle_exporter.fresh_process import _serve; _serve({requests}, {replies}, {preload!r})"
_TALK, _RESULT, _FAILURE = "talk", "result", "failure"


class FreshProcess:
    """A Python process that waits for one piece of work.

    It is started before there is anything to do, so that it imports TensorFlow while this process loads the model.

    Args:
        what: What it is for, in messages: "the gate".
        environment: Variables to set besides this process's own.
        preload: Modules to import at once.
        is_usual: Whether more of the kind will be wanted in this process; then they are forks of one that has imported.
    """

    def __init__(
        self,
        what: str,
        *,
        environment: Mapping[str, str] | None = None,
        preload: tuple[str, ...] = (),
        is_usual: bool = False,
    ) -> None:
        self._what = what
        self._log_level = logging.getLogger(__package__).getEffectiveLevel()
        # Two pipes of our own, since libraries write to standard output as they like.
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        start = fork_server.fork if is_usual and fork_server.IS_AVAILABLE else _spawn
        self._process: Forked | _Spawned
        try:
            self._process = start(requests, replies, environment=environment or {}, preload=preload)
        except BaseException:
            os.close(self._requests)
            os.close(self._replies)
            raise
        finally:
            os.close(requests)
            os.close(replies)

    def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a function there, once.

        Args:
            function: A module's own function, found there by its name.
            *arguments: What it is given, pickled.
            **named: The same by name.

        Returns:
            What it returned, pickled.

        Raises:
            BundleError: Of the class and with the text that the function raised it.
            ExportError: It raised something else, or the process ended before it was done; the message says how.
        """
        try:
            work = pickle.dumps((function.__module__, function.__qualname__, arguments, named, self._log_level))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ExportError(
                f"{self._what} runs in a process of its own, and cannot be told everything: {error}"
            ) from error
        try:
            with os.fdopen(self._requests, "wb") as pipe:
                self._requests = -1
                pipe.write(work)
        except BrokenPipeError:
            pass  # it is gone; how it ended is said below
        with os.fdopen(self._replies, "rb") as pipe:
            self._replies = -1
            while True:
                try:
                    kind, *content = pickle.load(pipe)
                except (EOFError, pickle.UnpicklingError):
                    break
                if kind == _TALK:
                    name, level, text = content
                    logging.getLogger(name).log(level, "%s", text)
                elif kind == _RESULT:
                    self._process.wait()
                    return content[0]
                else:
                    self._process.wait()
                    raise content[0]
        raise ExportError(f"{self._what} {_describe_end(self._process.wait())} before it was done")

    def close(self) -> None:
        """End the process if it still waits for its work."""
        for name in ("_requests", "_replies"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        self._process.end()

    def __enter__(self) -> FreshProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Spawned:
    """A process that was started anew."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def wait(self) -> int:
        """Wait for its end and give its exit code, negative for a signal."""
        return self._process.wait()

    def end(self) -> None:
        """End it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _spawn(requests: int, replies: int, *, environment: Mapping[str, str], preload: tuple[str, ...]) -> _Spawned:
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE.format(requests=requests, replies=replies, preload=preload)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
        pass_fds=(requests, replies),
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return _Spawned(process)


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (most likely there was not enough memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


class _Forwarding(logging.Handler):
    """Sends log lines to the process that waits for the result."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(_TALK, record.name, record.levelno, record.getMessage())


def _serve(requests: int, replies: int, preload: tuple[str, ...]) -> None:
    """Import, then do one piece of work; the whole life of a process that was started anew."""
    from .runtime import quiet

    with quiet():
        import_all(preload)
    work(requests, replies)


def work(requests: int, replies: int) -> None:
    """Read one piece of work from a pipe, do it, and write how it went to another.

    Args:
        requests: The reading end; it is closed.
        replies: The writing end; it is closed.
    """
    from .runtime import quiet

    with os.fdopen(replies, "wb", buffering=0) as pipe:

        def send(*message: Any) -> None:
            with suppress(BrokenPipeError):  # whoever waited is gone
                pipe.write(pickle.dumps(message))

        with os.fdopen(requests, "rb") as waiting:
            content = waiting.read()
        if not content:
            return  # whoever started us needs nothing
        module, name, arguments, named, log_level = pickle.loads(content)
        ours = logging.getLogger(__package__)
        ours.setLevel(log_level)
        ours.propagate = False
        ours.addHandler(_Forwarding(send))
        try:
            function = getattr(importlib.import_module(module), name)
            with quiet():
                result = function(*arguments, **named)
            send(_RESULT, result)
        except BundleError as error:
            send(_FAILURE, error)
        except Exception as error:
            logger.debug("in a fresh process", exc_info=True)
            send(_FAILURE, ExportError(f"{type(error).__name__}: {reason_of(error, length=400)}"))


def import_all(modules: tuple[str, ...]) -> None:
    """Import modules, TensorFlow without its talk."""
    from .runtime import import_tensorflow

    for module in modules:
        if module == "tensorflow":
            import_tensorflow()
        else:
            importlib.import_module(module)

"""A process that has imported TensorFlow and forks whenever one is needed: half a second instead of four.

Somebody who exports once does not notice; a training that exports each epoch does, and so does everybody who waits
for tests. The server is a process of its own, in which nothing but the import has happened, so a fork of it is as
good as a new one. It ends with the process that started it, or when nobody has needed it for a while.

Source of the caution elsewhere: macOS's own libraries do not stand a fork, so there each process is started anew.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

_CODE = "from tfbundle_exporter.fork_server import _serve; _serve({sock}, {preload!r})"
#: How long the server waits for more to do.
_IDLE_S = 60.0

IS_AVAILABLE = sys.platform == "linux"


class Forked:
    """A fork, seen from the process that asked for it.

    Args:
        status: Where the server writes the fork's number, and its exit code when it has ended.
    """

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status, "r")

    def wait(self) -> int:
        """Wait for its end and give its exit code, negative for a signal; called once."""
        with self._status:
            self._status.readline()
            # A server that was ended cannot say how its fork did; they end together when memory is short.
            return int(self._status.readline() or -signal.SIGKILL)

    def end(self) -> None:
        """End it if it still runs; one that is yet to come finds nothing to do."""
        if self._status.closed:
            return
        with self._status:
            has_begun = bool(select.select([self._status], [], [], 0)[0])
            pid = self._status.readline() if has_begun else ""
            if pid and not select.select([self._status], [], [], 0)[0]:
                os.kill(int(pid), signal.SIGKILL)


class ForkServer:
    """The server, seen from the process that started it.

    Args:
        environment: Variables to set besides this process's own.
        preload: Modules to import at once.
    """

    def __init__(self, environment: Mapping[str, str], preload: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(sock=theirs.fileno(), preload=preload)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def fork(self, requests: int, replies: int) -> Forked:
        """Ask for a fork that reads its work from one pipe and writes its result to another.

        Args:
            requests: The pipe's reading end.
            replies: The pipe's writing end.

        Returns:
            The fork, which is there as soon as the server has imported everything.

        Raises:
            OSError: The server is gone.
        """
        ours, theirs = os.pipe()
        try:
            socket.send_fds(self._socket, [b"fork"], [requests, replies, theirs])
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return Forked(ours)

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


_lock = threading.Lock()
_servers: dict[tuple[tuple[tuple[str, str], ...], tuple[str, ...]], ForkServer] = {}


def fork(requests: int, replies: int, *, environment: Mapping[str, str], preload: tuple[str, ...]) -> Forked:
    """Ask this process's server of that kind for a fork, and start the server where there is none.

    Args:
        requests: Reading end of the pipe that its work comes by.
        replies: Writing end of the pipe that its result goes by.
        environment: Variables to set besides this process's own.
        preload: Modules to import at once.

    Raises:
        OSError: No process can be started.
    """
    key = (tuple(sorted(environment.items())), preload)
    with _lock:
        server = _servers.get(key)
        if server is not None:
            try:
                return server.fork(requests, replies)
            except OSError:  # it had nothing to do for a while and went
                server.close()
        server = _servers[key] = ForkServer(environment, preload)
        return server.fork(requests, replies)


@atexit.register
def _close_all() -> None:
    while _servers:
        _servers.popitem()[1].close()


def _after_fork() -> None:
    # The parent's thread that held the lock is not here. The servers are: messages of two processes do not mix.
    global _lock
    _lock = threading.Lock()
    atexit.unregister(_close_all)


os.register_at_fork(after_in_child=_after_fork)


def _serve(sock: int, preload: tuple[str, ...]) -> None:
    """Fork for whoever asks; the whole life of a server."""
    from .fresh_process import import_all
    from .runtime import quiet

    with quiet():
        import_all(preload)
    # Python 3.12 warns of forks beside threads. The only ones here are numpy's own, which stand it.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=__name__)
    wakes, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    statuses: dict[int, int] = {}
    with socket.socket(fileno=sock) as asking:
        while True:
            ready, _, _ = select.select([asking.fileno(), wakes], [], [], _IDLE_S)
            if wakes in ready:
                os.read(wakes, 4096)
                _report_ended(statuses)
            if sock in ready:
                message, pipes, _, _ = socket.recv_fds(asking, 16, 3)
                if not message:
                    return  # whoever started us has ended
                requests, replies, status = pipes
                _fork_one(statuses, requests, replies, status, closing=(sock, wakes, wake))
            if not ready and not statuses:
                return


def _fork_one(statuses: dict[int, int], requests: int, replies: int, status: int, closing: tuple[int, ...]) -> None:
    pid = os.fork()
    if pid == 0:
        for descriptor in (*closing, *statuses.values(), status):
            os.close(descriptor)
        _work(requests, replies)
    os.close(requests)
    os.close(replies)
    with suppress(BrokenPipeError):
        os.write(status, b"%d\n" % pid)
    statuses[pid] = status


def _work(requests: int, replies: int) -> NoReturn:
    from . import fresh_process

    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        fresh_process.work(requests, replies)
        code = 0
    finally:
        sys.stderr.flush()
        # Not the server's own end: its exit handlers are not this process's.
        os._exit(code)


def _report_ended(statuses: dict[int, int]) -> None:
    while statuses:
        pid, code = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        status = statuses.pop(pid)
        with suppress(BrokenPipeError):
            os.write(status, b"%d\n" % os.waitstatus_to_exitcode(code))
        os.close(status)

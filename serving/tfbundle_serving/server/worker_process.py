"""One worker: a server like any other, which is told what to serve and when to listen by its supervisor.

Started by `workers` as `python -m tfbundle_serving.server.worker_process FD`, where FD is its end of the channel.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from multiprocessing.connection import Connection
from types import FrameType

from tfbundle_serving.apis.errors import BundleError

from .lifecycle import Server, StartCancelledError
from .output import set_up_logging, silent_stderr
from .worker_link import WorkerLink
from .worker_messages import Failed, Goodbye, Job, Loaded, Opened

_FAILED = 1


def main(fd: int) -> int:
    """Serve until SIGTERM, or until the supervisor is gone, and drain.

    Args:
        fd: Descriptor of the channel.

    Returns:
        The exit code.
    """
    asked, opening = threading.Event(), threading.Event()

    def ask(*_: int | FrameType | None) -> None:
        asked.set()
        opening.set()

    # However often it is asked: the supervisor ends a worker at once with SIGKILL.
    signal.signal(signal.SIGTERM, ask)
    # Ctrl-C is the supervisor's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(fd)
    link = WorkerLink(connection, on_open=opening.set, on_lost=ask)
    job: Job = connection.recv()
    set_up_logging(f"worker {job.number}: ")
    try:
        path_socket = None if job.path_fd is None else socket.socket(fileno=job.path_fd)
        server = Server(job.settings, link=link, path_socket=path_socket)
        server.load(asked, importing=silent_stderr, is_lenient=job.is_replacement)
    except StartCancelledError:
        return 0
    except BundleError as error:
        link.send(Failed(error))
        return _FAILED
    link.serve(server)
    link.send(Loaded())
    try:
        opening.wait()
        if not asked.is_set():
            server.listen()
            link.send(Opened(server.models()))
            asked.wait()
    except BundleError as error:
        link.send(Failed(error))
        return _FAILED
    finally:
        server.stop()
    link.send(Goodbye(server.metrics.show()))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

"""Several servers that share the ports, for machines with more cores than one interpreter can use.

    supervisor ─┬─ worker 1   each a whole server: its own models, its own event loop
                └─ worker N

The supervisor never answers a request and never imports TensorFlow. It takes the ports, starts the workers, lets them
listen once all have loaded, starts another for one that dies, and stops them. What one worker is asked and all must
do, goes through it: another list of models, and the numbers of the monitoring page.

Each worker has a listening socket of its own on the shared port (SO_REUSEPORT), and Linux spreads the connections by a
hash of their addresses; a UNIX socket is inherited, since there is no such thing for those. Measured with two workers
and 64 connections opened at once, the smaller share was 28 to 32; with one inherited socket it was 6 to 30, since who
wakes first accepts all that there are.

Each worker looks at the base paths for itself, so a new version becomes AVAILABLE in each at its own moment, and the
status of a model and the health of the server are those of the worker that is asked: it is the one that answers
requests on that connection.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tfbundle_serving.apis.errors import InvalidArgument
from tfbundle_serving.apis.model_status import VersionStatus

from .listening import bind_path, release_path, reserve
from .repository import check_models_dir
from .settings import ServerSettings
from .supervisor import Supervisor
from .worker_messages import Opened


@dataclass(frozen=True, slots=True)
class Started:
    """What is served once every worker listens.

    Attributes:
        settings: With the ports.
        workers: How many there are.
        states: Model name to the states of its versions.
    """

    settings: ServerSettings
    workers: int
    states: Mapping[str, list[VersionStatus]]

    @property
    def grpc_port(self) -> int:
        """The port that gRPC listens on; 0 where it does not."""
        return self.settings.grpc_port or 0

    @property
    def rest_port(self) -> int:
        """The port that REST listens on; 0 where it does not."""
        return self.settings.rest_port or 0

    def models(self) -> dict[str, list[VersionStatus]]:
        """Give the state of every model's versions."""
        return dict(self.states)


def serve_workers(settings: ServerSettings, count: int, on_started: Callable[[Started], None]) -> None:
    """Start workers, serve until a signal comes, and stop them.

    Args:
        settings: What to serve, and how.
        count: Workers, at least 2.
        on_started: Called once all of them listen.

    Raises:
        BundleError: They could not be started.
    """
    if not sys.platform.startswith("linux"):
        raise InvalidArgument("--workers needs Linux, whose kernel spreads the connections to a port over processes")
    if settings.models_dir is not None:
        check_models_dir(settings.models_dir)
    with contextlib.ExitStack() as closing:

        def take(host: str, port: int | None, flag: str) -> int | None:
            if port is None:
                return None
            return int(closing.enter_context(reserve(host, port, flag)).getsockname()[1])

        grpc_port = take(settings.host, settings.grpc_port, "port")
        rest_port = take(settings.rest_host or settings.host, settings.rest_port, "rest_api_port")
        shared = replace(settings, grpc_port=grpc_port, rest_port=rest_port)
        path = settings.grpc_socket_path
        path_socket = closing.enter_context(bind_path(path, "grpc_socket_path")) if path else None
        if path_socket is not None:
            closing.callback(release_path, path, Path(path).stat())

        def started(opened: Opened) -> None:
            on_started(Started(shared, count, opened.models))

        Supervisor(shared, count, started, path_socket).run()

"""The servers that one models.config describes; what changes has to change on each of them.

A client of several servers asks one of them, which is right for predictions and wrong for a reload: every server has a
list of models of its own. So `grpc://a:8500,b:8500` is two servers here, and `dns:///name:8500` one for each address
that the name has now.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tfbundle_serving.apis.errors import (
    ApiError,
    BundleError,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    RolloutError,
    Unavailable,
    Unimplemented,
)
from tfbundle_serving.apis.model_status import State, VersionStatus

from ..client import Client
from ..transports.address import Endpoint, parse_address

Answer = TypeVar("Answer")

#: Version number to its status, of one model at one server.
States = Mapping[int, VersionStatus]

#: States in which a version holds memory, or is about to.
LIVE = frozenset({State.START, State.LOADING, State.AVAILABLE})

_POLL_S = 0.05
#: How long a version that is END when it is asked for may stay so: servers list what ended long ago, and look for
#: versions every second. TensorFlow Serving's --file_system_poll_wait_seconds is 1.
_STALE_S = 5.0
_EXPECTED = "expected grpc://host:port, grpcs://host:port, dns:///name:port or unix:/path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server.

    Attributes:
        url: Its own address; messages name it.
        client: Asks it alone.
    """

    url: str
    client: Client

    def states(self, model: str) -> dict[int, VersionStatus]:
        """Ask for the states of a model's versions; none where the server does not know the model."""
        try:
            return {each.version: each for each in self.client.status(model)}
        except NotFound:
            return {}

    def labelled(self, model: str, label: str) -> int | None:
        """Ask which version a label means now; None where there is no such label, or no such model."""
        try:
            return self.client.metadata(model, label=label).version
        except (InvalidArgument, NotFound):
            return None
        except Unavailable as error:
            # TensorFlow Serving's words where no list of models was accepted so far.
            if "labels does not init" in error.message:
                return None
            raise


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """What came of asking every server.

    Attributes:
        answers: Address to answer.
        failures: Address to what went wrong; no address is in both.
    """

    answers: dict[str, Answer]
    failures: dict[str, BundleError]

    def all(self, what: str) -> dict[str, Answer]:
        """Give the answers.

        Args:
            what: What was asked for, in the words of a message: "reload digits".

        Raises:
            RolloutError: A server did not answer.
        """
        if self.failures:
            raise RolloutError(f"could not {what}: {say_failures(self.failures)}")
        return self.answers


class TakenAwayError(RolloutError):
    """A version that was asked for left again without an error: another list of models came in between."""


class Fleet:
    """All servers, each with a client of its own; made by `open_fleet`."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = tuple(servers)

    def __str__(self) -> str:
        return ", ".join(server.url for server in self.servers)

    def ask(self, question: Callable[[Server], Answer], stop: threading.Event | None = None) -> Asked[Answer]:
        """Ask every server at the same time, and wait for all of them.

        Args:
            question: Asks one.
            stop: Is set when nobody waits for the answers any more, after Ctrl-C.
        """
        answers: dict[str, Answer] = {}
        failures: dict[str, BundleError] = {}

        def one(server: Server) -> None:
            try:
                answers[server.url] = question(server)
            except BundleError as error:
                failures[server.url] = error

        if len(self.servers) == 1:
            one(self.servers[0])
        else:
            threads = ThreadPoolExecutor(len(self.servers))
            try:
                list(threads.map(one, self.servers))
            except BaseException:
                if stop is not None:
                    stop.set()
                raise
            finally:
                threads.shutdown()
        return Asked(answers, failures)

    def states(self, model: str) -> dict[str, dict[int, VersionStatus]]:
        """Ask every server for the states of a model's versions.

        Raises:
            RolloutError: A server did not answer.
        """
        return self.ask(lambda server: server.states(model)).all(f"ask for the versions of {model}")

    def labelled(self, model: str, label: str) -> dict[str, int | None]:
        """Ask every server which version a label means now.

        Raises:
            RolloutError: A server did not answer.
        """
        return self.ask(lambda server: server.labelled(model, label)).all(f"ask for label {label} of {model}")

    def reload(self, config: str, *, timeout_s: float) -> Asked[None]:
        """Give every server a list of models, the text of a models.config; it takes the place of the one before."""

        def send(server: Server) -> None:
            try:
                server.client.reload_config(config, timeout=timeout_s)
            except DeadlineExceeded as error:
                raise RolloutError(
                    f"no answer to the reload within {timeout_s:g} s; TensorFlow Serving waits without end for a new "
                    "model that has no versions, and with --file_system_poll_wait_seconds=0 for any new one"
                ) from error
            except Unimplemented as error:
                raise RolloutError(f"it takes no reloads: {error.message}") from error

        return self.ask(send)

    def wait_available(
        self, model: str, version: int, *, before: Mapping[str, States], timeout_s: float
    ) -> dict[str, float]:
        """Wait until a version answers at every server; a version that fails to load is not waited for.

        Args:
            model: Model name.
            version: The version.
            before: What `states` said before the reload that asked for it: an old failure is no new one.
            timeout_s: Seconds.

        Returns:
            Address to seconds until the version was AVAILABLE there.

        Raises:
            TakenAwayError: It left again without an error, at one server at least, and failed at none.
            RolloutError: It failed to load, or was not there in time.
        """
        waiting = _Waiting(model=model, version=version, begun=time.monotonic(), timeout_s=timeout_s)
        asked = self.ask(lambda server: waiting.at(server, before.get(server.url, {})), waiting.stop)
        if asked.failures and all(isinstance(error, TakenAwayError) for error in asked.failures.values()):
            raise TakenAwayError(f"could not load {model} version {version}: {say_failures(asked.failures)}")
        return asked.all(f"load {model} version {version}")

    def wait_labelled(self, model: str, label: str, version: int | None, *, timeout_s: float) -> None:
        """Wait until a label means a version at every server; None: until there is no such label.

        Raises:
            RolloutError: It did not happen in time.
        """
        stop = threading.Event()

        def wait(server: Server) -> None:
            end = time.monotonic() + timeout_s
            while (found := server.labelled(model, label)) != version:
                if time.monotonic() > end:
                    raise RolloutError(
                        f"label {label} means {_say_version(found)} there after {timeout_s:g} s, "
                        f"expected {_say_version(version)}; does another process reload this server?"
                    )
                if stop.wait(_POLL_S):
                    raise RolloutError("interrupted")

        self.ask(wait, stop).all(f"move label {label} of {model}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """Waits for a version to be AVAILABLE."""

    model: str
    version: int
    begun: float
    timeout_s: float
    stop: threading.Event = field(default_factory=threading.Event)

    def at(self, server: Server, before: States) -> float:
        """Wait at one server, and give the seconds since the beginning."""
        was_live = False
        while True:
            found = server.states(self.model).get(self.version)
            passed_s = time.monotonic() - self.begun
            if found is not None and found.state is State.AVAILABLE:
                return passed_s
            is_live = found is not None and found.state in LIVE
            # What is END from an earlier time stays so until the server has looked again.
            is_stale = not was_live and found == before.get(self.version) and passed_s < _STALE_S
            if found is not None and not is_live and not is_stale:
                self._check_end(found, was_live=was_live)
            was_live = was_live or is_live
            if passed_s > self.timeout_s:
                state = "not known there" if found is None else found.state.name
                raise RolloutError(
                    f"version {self.version} is {state} after {self.timeout_s:g} s; does the server look for versions "
                    "(--file_system_poll_wait_seconds), and see the folder at the base path of its models.config?"
                )
            if self.stop.wait(_POLL_S):
                raise RolloutError("interrupted")

    def _check_end(self, found: VersionStatus, *, was_live: bool) -> None:
        if found.state is State.END and found.error_code:
            raise RolloutError(f"version {self.version} could not be loaded there: {found.error_message}")
        if was_live:
            raise TakenAwayError(
                f"version {self.version} was taken away again before it answered: another list of models came in "
                "between, from another process, or from the file that the server reads by itself "
                "(--model_config_file_poll_wait_seconds)"
            )


def say_failures(failures: Mapping[str, BundleError]) -> str:
    """Say in one line what went wrong at which server."""
    return "; ".join(
        f"{url}: {error.message if isinstance(error, ApiError) else error}" for url, error in sorted(failures.items())
    )


def _say_version(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


@contextmanager
def open_fleet(
    urls: Iterable[str], *, access_of: Callable[[str], Mapping[str, Any]] | None = None, timeout_s: float = 60.0
) -> Iterator[Fleet]:
    """Make a client for each server behind some addresses; nothing is sent yet, but names are looked up.

    Args:
        urls: Addresses, as `Client` takes them; over gRPC.
        access_of: Gives the keyword arguments of `Client` that go with an address: headers, bearer_token, tls.
        timeout_s: Seconds for a single question.

    Raises:
        InvalidArgument: An address is none, or one over REST, which has no reload.
        RolloutError: A name has no address.
    """
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for url in urls:
            access = {} if access_of is None else dict(access_of(url))
            for each, options in _single_servers(url, is_tls_given=access.get("tls") is not None):
                if each not in servers:
                    client = stack.enter_context(Client(each, timeout=timeout_s, channel_options=options, **access))
                    servers[each] = Server(url=each, client=client)
        yield Fleet(tuple(servers.values()))


def _single_servers(url: str, *, is_tls_given: bool) -> Iterator[tuple[str, dict[str, int | str]]]:
    """List the servers behind an address, each with the channel arguments that it needs."""
    address = parse_address(url)
    if address.transport != "gRPC":
        kind = "REST has no reload" if address.transport == "REST" else "a folder is no server"
        raise InvalidArgument(f"{url} cannot be given another list of models, {kind}; {_EXPECTED}", attempts=0)
    if not url.startswith("dns:"):
        for endpoint in address.endpoints:
            yield endpoint.url, {}
        return
    (endpoint,) = address.endpoints
    name, ips, port = _resolve(endpoint)
    # The certificate is the name's, not the address's.
    options: dict[str, int | str] = {"grpc.default_authority": f"{name}:{port}"}
    if is_tls_given:
        options["grpc.ssl_target_name_override"] = name
    for ip in ips:
        host = f"[{ip}]" if ":" in ip else ip
        yield f"{'grpcs' if is_tls_given else 'grpc'}://{host}:{port}", options


def _resolve(endpoint: Endpoint) -> tuple[str, Sequence[str], int]:
    name, _, port = endpoint.target.rpartition("/")[2].rpartition(":")
    host = name.strip("[]")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise RolloutError(f"{endpoint.url}: the name {host} has no address: {error.strerror or error}") from error
    return host, sorted({str(each[4][0]) for each in found}), int(port)

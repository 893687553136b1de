"""The servers that one models.config describes; what changes has to change on each of them.

A client of several servers asks one of them, which is right for predictions and wrong for a reload: every server has a
list of models of its own. `addresses.open_fleet` makes one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tfbundle_serving.apis.errors import (
    ApiError,
    BundleError,
    DeadlineExceeded,
    FailedPrecondition,
    RolloutError,
    Unimplemented,
)
from tfbundle_serving.apis.model_status import State, VersionStatus

from .server import LIVE, Server, States

Answer = TypeVar("Answer")

_POLL_S = 0.05
#: How long a version that is END when it is asked for may stay so: servers list what ended long ago, and look for
#: versions every second. TensorFlow Serving's --file_system_poll_wait_seconds is 1.
_STALE_S = 5.0
_NOT_SEEN = (
    "does the server look for versions (--file_system_poll_wait_seconds), and see the folder at the base path of its "
    "models.config?"
)
_TRYING = "it is still loading, or fails over and over: the server's log tells, and so does `tfbundle verify PATH`"
#: Why a version may not be AVAILABLE in time, by the state that it is in.
_LATE = {State.START: _TRYING, State.LOADING: _TRYING}
#: The embedded server's words where it was given a folder: `tfbundle serve models`.
_FOLDER = "This server serves a models directory"


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


class Fleet:
    """All servers, each with a client of its own."""

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

    def served(self, guesses: Collection[str] = ()) -> dict[str, frozenset[str]]:
        """Ask every server which models it has; where it does not tell, which of some it has.

        Args:
            guesses: Names of models.

        Raises:
            RolloutError: A server did not answer.
        """
        return self.ask(lambda server: server.served(guesses)).all("ask for the models")

    def labelled(self, model: str, label: str) -> dict[str, int | None]:
        """Ask every server which version a label means now.

        Raises:
            RolloutError: A server did not answer.
        """
        return {url: found.get(label) for url, found in self.labels(model, [label]).items()}

    def labels(self, model: str, labels: Iterable[str]) -> dict[str, dict[str, int]]:
        """Ask every server which versions some labels mean now; those that mean none are left out.

        Raises:
            RolloutError: A server did not answer.
        """
        wanted = tuple(labels)
        return self.ask(lambda server: server.labels(model, wanted)).all(
            f"ask for {'label' if len(wanted) == 1 else 'labels'} {', '.join(wanted)} of {model}"
        )

    def reload(self, config: str | Mapping[str, str], *, timeout_s: float) -> Asked[None]:
        """Give every server a list of models; it takes the place of the one before.

        Args:
            config: The text of a models.config, or address to the text that this server gets.
            timeout_s: Seconds.
        """

        def send(server: Server) -> None:
            try:
                text = config if isinstance(config, str) else config[server.url]
                server.client.reload_config(text, timeout=timeout_s)
            except DeadlineExceeded as error:
                raise RolloutError(
                    f"no answer to the reload within {timeout_s:g} s; TensorFlow Serving waits without end for a new "
                    "model that has no versions, and with --file_system_poll_wait_seconds=0 for any new one"
                ) from error
            except FailedPrecondition as error:
                if _FOLDER not in error.message:
                    raise
                raise RolloutError(
                    "it was started with a models folder, and so takes no models.config; start it with "
                    "--model_config_file=... to use labels"
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
            RolloutError: It failed to load, was not there in time, or left again (see `is_taken_away`).
        """
        waiting = _Waiting(model=model, version=version, begun=time.monotonic(), timeout_s=timeout_s)
        asked = self.ask(lambda server: waiting.at(server, before.get(server.url, {})), waiting.stop)
        return asked.all(f"load {model} version {version}")

    def is_taken_away(self, model: str, version: int) -> bool:
        """Tell whether a version that was loaded has left without an error, at one server at least, and failed at none.

        Another list of models came in between then, most likely the file that the server reads by itself.
        """
        asked = self.ask(lambda server: server.states(model).get(version))
        gone = [each for each in asked.answers.values() if each is not None and each.state not in LIVE]
        return not asked.failures and bool(gone) and not any(each.error_code for each in gone)

    def wait_labelled(
        self, model: str, label: str, version: int | Mapping[str, int | None], *, timeout_s: float
    ) -> None:
        """Wait until a label means a version at every server.

        Args:
            model: Model name.
            label: The label.
            version: The version, or address to the version there; None: until there is no such label.
            timeout_s: Seconds.

        Raises:
            RolloutError: It did not happen in time.
        """
        stop = threading.Event()

        def wait(server: Server) -> None:
            end = time.monotonic() + timeout_s
            wanted = version if isinstance(version, int) else version[server.url]
            while (found := server.labelled(model, label)) != wanted:
                if time.monotonic() > end:
                    raise RolloutError(
                        f"label {label} means {_say_version(found)} there after {timeout_s:g} s, "
                        f"expected {_say_version(wanted)}; does another process reload this server?"
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
                raise RolloutError(
                    f"version {self.version} is {'not known there' if found is None else found.state.name} "
                    f"after {self.timeout_s:g} s; {_NOT_SEEN if found is None else _LATE.get(found.state, _NOT_SEEN)}"
                )
            if self.stop.wait(_POLL_S):
                raise RolloutError("interrupted")

    def _check_end(self, found: VersionStatus, *, was_live: bool) -> None:
        if found.state is State.END and found.error_code:
            raise RolloutError(f"version {self.version} could not be loaded there: {found.error_message}")
        if was_live:
            raise RolloutError(
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

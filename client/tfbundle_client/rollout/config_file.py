"""A models.config on disk: found, locked against a second change, and replaced as a whole.

It is replaced by a rename, so whoever reads it sees the old text or the new one. For the same reason a container must
mount its folder and not the file, which would stay the old one there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfbundle_serving.apis.durable import open_lock, replace_file
from tfbundle_serving.apis.errors import InvalidArgument, RolloutError
from tfbundle_serving.apis.models_config_edit import ConfiguredModel, read_models

from .talk import Say, quietly

#: Where a models.config is looked for if none is named.
DEFAULT_PLACES = (Path("models.config"), Path("serving/models.config"))

_POLL_S = 0.1


def find_config(given: Path | None) -> Path:
    """Name the models.config that is meant.

    Raises:
        RolloutError: It is not there, or none is named and none in the usual places.
    """
    if given is not None:
        if not given.is_file():
            raise RolloutError(f"there is no file {given}; --config names the models.config that the server reads")
        return given
    found = next((place for place in DEFAULT_PLACES if place.is_file()), None)
    if found is None:
        places = " nor ".join(map(str, DEFAULT_PLACES))
        raise RolloutError(f"there is neither {places} here; --config names the models.config that the server reads")
    return found


class ConfigFile:
    """A models.config that nobody else changes meanwhile; made by `open_config`.

    Attributes:
        path: The file itself, links followed: a link must not become a file.
        text: What it says; kept up to date by `replace`.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        self._content = content

    @property
    def text(self) -> str:
        """What the file says."""
        return self._content.decode("utf-8", "surrogateescape")

    def read_models(self) -> tuple[ConfiguredModel, ...]:
        """Read its models.

        Raises:
            InvalidArgument: It is no models.config; the message names the file and the line.
        """
        try:
            return read_models(self.text)
        except InvalidArgument as error:
            raise InvalidArgument(f"{self.path}: {error.message}", attempts=0) from error

    @property
    def content(self) -> bytes:
        """The file, byte for byte."""
        return self._content

    def replace(self, content: bytes) -> None:
        """Put another content in the place of the one that was read or written last, with the same permissions.

        Raises:
            RolloutError: Somebody else changed the file since; it is left as it is.
            OSError: It cannot be written.
        """
        if self.path.read_bytes() != self._content:
            raise RolloutError(
                f"{self.path} was changed by somebody else meanwhile; it is left as it is: run this again"
            )
        if content == self._content:
            return
        replace_file(self.path, content)
        self._content = content


def read_config(path: Path) -> ConfigFile:
    """Read a models.config without keeping others from changing it, and without a trace.

    Raises:
        RolloutError: The file is not there or cannot be read.
    """
    real = path.resolve()
    try:
        return ConfigFile(real, real.read_bytes())
    except OSError as error:
        raise RolloutError(f"{real} cannot be read: {error.strerror or error}") from error


@contextmanager
def open_config(path: Path, *, timeout_s: float = 60.0, say: Say = quietly) -> Iterator[ConfigFile]:
    """Read a models.config and keep others from changing it; only commands of tfbundle heed that.

    Args:
        path: The file.
        timeout_s: Seconds to wait for another command that changes it.
        say: Is told that it waits.

    Raises:
        RolloutError: The file is not there or cannot be read, or another command takes too long.
    """
    real = path.resolve()
    try:
        lock = open_lock(real.with_name(f".{real.name}.lock"))
    except OSError as error:
        raise RolloutError(
            f"cannot write beside {real}: {error.strerror or error}; its folder holds the lock and the history"
        ) from error
    try:
        _wait_for(lock, real, timeout_s, say)
        yield read_config(real)
    finally:
        os.close(lock)


def _wait_for(lock: int, real: Path, timeout_s: float, say: Say) -> None:
    end, has_said = time.monotonic() + timeout_s, False
    while not _try_lock(lock):
        if time.monotonic() > end:
            raise RolloutError(f"{real} is being changed by another command for {timeout_s:g} s; wait for it to end")
        if not has_said:
            say(f"waiting for another command that changes {real}")
            has_said = True
        time.sleep(_POLL_S)


def _try_lock(lock: int) -> bool:
    import fcntl  # not on Windows, where the rest of the client runs

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

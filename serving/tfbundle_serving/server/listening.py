"""Ports: taken early, so that one in use is reported before models are loaded, and listened on late."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError

#: Connections that may wait to be accepted.
BACKLOG = 2048
#: Open files that are asked for at most; where the system has no bound, tables of that size would be made.
MOST_FILES = 65_536
_EVERY, _EVERY_IPV4 = "::", "0.0.0.0"
#: How long requests under way may take to finish once the server is asked to stop.
GRACE_S = 30.0


class PortUnavailableError(BundleError):
    """A port cannot be listened on."""


def bind(host: str, port: int, flag: str, *, is_shared: bool = False) -> socket.socket:
    """Take a port without listening yet: who connects before `listen` is refused.

    Args:
        host: Address; one with a colon is IPv6. "::" is every address of IPv4 and IPv6, or of IPv4 where that is all.
        port: 0 means one that the system picks.
        flag: The flag that chooses another port; the message names it.
        is_shared: Whether other processes of this user may take it too; Linux then spreads connections over them.

    Raises:
        PortUnavailableError: The port is in use, or the address is not this machine's.
    """
    if host == _EVERY and not _has_ipv6():
        host = _EVERY_IPV4
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if host == _EVERY:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Lets a restarted server have its port back at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortUnavailableError(
            f"cannot listen on {target(host, port)}: {error.strerror or error}; choose another port with --{flag}=PORT"
        ) from error
    return listener


def _has_ipv6() -> bool:
    """Tell whether this machine has IPv6; it may have been turned off where Python knows it."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((_EVERY, 0))
    except OSError:
        return False
    return True


def bind_path(path: str, flag: str) -> socket.socket:
    """Take a UNIX socket's path without listening yet; one that an ended server left there is replaced.

    Raises:
        PortUnavailableError: It cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if stat.S_ISSOCK(Path(path).stat().st_mode):
            Path(path).unlink()
    except OSError:  # there is none, or what there is `bind` complains of
        pass
    try:
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise PortUnavailableError(
            f"cannot listen on unix:{path}: {error.strerror or error}; choose another with --{flag}"
        ) from error
    return listener


def release_path(path: str, made: os.stat_result) -> None:
    """Take a UNIX socket's path away, unless it is another server's by now.

    Args:
        path: The path.
        made: What `os.stat` said of it when it was made.
    """
    with contextlib.suppress(OSError):
        if os.path.samestat(Path(path).stat(), made):
            Path(path).unlink()


def reserve(host: str, port: int, flag: str) -> socket.socket:
    """Take a port for processes that are to share it; the socket itself never listens.

    Raises:
        PortUnavailableError: The port is in use, by somebody else's shared sockets too.
    """
    with bind(host, port, flag) as alone:
        free = int(alone.getsockname()[1])
    return bind(host, free, flag, is_shared=True)


def target(host: str, port: int) -> str:
    """Write host and port as one address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def allow_many_connections() -> None:
    """Let this process have as many open files as the system allows it: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS refuses what lies above its own bound; the server then has what it had.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def write_ports(path: Path, *, grpc: int, rest: int) -> None:
    """Write the ports file; it appears at once and whole. A port that is off is 0.

    Raises:
        BundleError: It cannot be written; nothing is left of it.
    """
    text = json.dumps({"grpc": grpc, "rest": rest, "pid": os.getpid()}) + "\n"
    try:
        if path.exists() and not path.is_file():
            # A device such as /dev/stdout, or a pipe: whoever may would replace it by a file.
            path.write_text(text, encoding="utf-8")
            return
        staging = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            staging.write_text(text, encoding="utf-8")
            staging.replace(path)
        except OSError:
            staging.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BundleError(f"cannot write the ports file {path}: {error.strerror or error}") from error

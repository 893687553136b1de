"""Ports: taken early for REST, tried early for gRPC, so that one in use is reported before models are loaded."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
from pathlib import Path

from tfbundle_serving.apis.errors import BundleError

#: Connections that may wait to be accepted.
BACKLOG = 2048
#: Open files that are asked for at most; where the system has no bound, tables of that size would be made.
MOST_FILES = 65_536


class PortUnavailableError(BundleError):
    """A port cannot be listened on."""


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Take a port without listening yet: who connects before `listen` is refused.

    Args:
        host: Address; one with a colon is IPv6.
        port: 0 means one that the system picks.
        flag: The flag that chooses another port; the message names it.

    Raises:
        PortUnavailableError: The port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Lets a restarted server have its port back at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortUnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port with --{flag}=PORT"
        ) from error
    return listener


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
    """Write the ports file; it appears at once and whole. A port that is off is 0."""
    staging = path.with_name(f"{path.name}.{os.getpid()}")
    staging.write_text(json.dumps({"grpc": grpc, "rest": rest, "pid": os.getpid()}) + "\n", encoding="utf-8")
    staging.replace(path)

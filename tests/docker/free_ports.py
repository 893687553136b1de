"""Ports for processes that cannot choose one themselves."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Give a port of the loopback device that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

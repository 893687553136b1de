"""A TCP proxy on loopback that breaks connections in the ways that networks do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

#: What is done to connections: nothing; accepted and reset; nothing is passed on; replies end after some bytes.
Fault = Literal["none", "reset", "stall", "cut"]


class FaultProxy:
    """Passes bytes between clients and one server; `fault` can be changed at any time.

    Attributes:
        fault: What happens to what is passed on from now on.
        cut_after: With "cut", bytes of each connection's replies that still pass.
        faults_left: How many connections the fault hits; None for all.
        connections: Connections accepted so far.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.fault: Fault = "none"
        self.cut_after = 0
        self.faults_left: int | None = None
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._is_closing = threading.Event()
        self._start(self._accept)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def reset_all(self) -> None:
        """Reset every connection that is open."""
        for each in list(self._sockets):
            _reset(each)

    def close(self) -> None:
        """End it, and every connection."""
        self._is_closing.set()
        _shut(self._listener)
        self.reset_all()
        for thread in self._threads:
            thread.join()

    def _start(self, function: object, *args: object) -> None:
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = self._strike()
            if fault == "reset":
                _reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                _reset(client)
                continue
            self._sockets += [client, server]
            self._start(self._pump, client, server, False, fault)
            self._start(self._pump, server, client, True, fault)

    def _strike(self) -> Fault:
        if self.faults_left is None or self.fault == "none":
            return self.fault
        if self.faults_left == 0:
            return "none"
        self.faults_left -= 1
        return self.fault

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool, fault: Fault) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                if fault == "stall" or (self.fault == "stall" and self.faults_left is None):
                    self._is_closing.wait()
                    return
                if is_reply and fault == "cut":
                    sink.sendall(data[: max(0, self.cut_after - passed)])
                    passed += len(data)
                    if passed >= self.cut_after:
                        break
                    continue
                sink.sendall(data)
        except OSError:
            pass
        finally:
            _shut(sink)
            _shut(source)


def _shut(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def _reset(each: socket.socket) -> None:
    try:
        # Lingering for no time makes close() send a reset instead of an orderly end.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # A thread that waits in recv would keep the socket open; reading alone is ended, which sends nothing.
        each.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    each.close()


@contextmanager
def fault_proxy(target_port: int) -> Iterator[FaultProxy]:
    """Run a proxy for the length of a block."""
    proxy = FaultProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()

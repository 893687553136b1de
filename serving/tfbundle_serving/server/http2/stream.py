"""One stream: a request and its answer, on a connection that carries many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .frames import LARGEST

if TYPE_CHECKING:
    import asyncio

    from .connection import Connection


class Stream:
    """What a connection knows of a stream; what is done with it is a subclass's.

    Args:
        connection: Carries it.
        number: Its number there.
        send_window: Bytes of data that the other side takes.

    Attributes:
        has_ended: Whether the other side has sent all that it will.
        send_window: Bytes of data that the other side takes for now; below 0 after it took back some.
        receive_window: Bytes of data that the other side may send.
        pending: Data that waits to be sent.
        trailers: The frame that follows them and ends the stream, once that is known.
        drained: Done once nothing is pending; there while somebody waits for that.
    """

    __slots__ = (
        "connection",
        "drained",
        "has_ended",
        "number",
        "pending",
        "receive_window",
        "send_window",
        "trailers",
    )

    def __init__(self, connection: Connection[Any], number: int, send_window: int) -> None:
        self.connection = connection
        self.number = number
        self.send_window = send_window
        self.receive_window = LARGEST
        self.has_ended = False
        self.pending: list[memoryview] | None = None
        self.trailers: bytes | None = None
        self.drained: asyncio.Future[None] | None = None

    def on_open(self) -> None:
        """Begin: the headers are there."""

    def on_data(self, data: bytes, at: int, stop: int) -> None:
        """Take what is between two offsets of a chunk that was received."""

    def on_end(self) -> None:
        """Take note that the other side has sent all."""

    def on_closed(self) -> None:
        """Stop: the other side wants no answer any more, or is gone."""

    def on_cancel(self) -> None:
        """Stop: the server ends; say so."""

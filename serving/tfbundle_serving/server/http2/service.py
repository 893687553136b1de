"""What connections serve, and what each of them may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from .header_blocks import Header
from .stream import Stream

if TYPE_CHECKING:
    from .connection import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may do.

    Attributes:
        max_streams: Streams at once. 4096 is more than any client has in flight for long (further calls of a gRPC
            channel wait in the client), and bounds what one connection can make the server remember.
        max_header_bytes: Bytes of a list of headers; as gRPC.
        max_frame_bytes: Bytes of a frame's payload.
    """

    max_streams: int = 4096
    max_header_bytes: int = 16_384
    max_frame_bytes: int = 1 << 20


class Service(Protocol[T]):
    """What is served over connections."""

    def read(self, headers: Sequence[Header], *, is_cut: bool) -> T:
        """Say what a list of headers asks for; asked once for lists that are repeated."""

    def open(self, connection: Connection[T], number: int, asked: T) -> Stream:
        """Make the stream that answers it."""

    def on_made(self, connection: Connection[T]) -> None:
        """Take note of a connection."""

    def on_lost(self, connection: Connection[T]) -> None:
        """Forget a connection."""

"""How a connection ends: politely, with every open stream answered, or at once, with a reason.

Source: RFC 9113, sections 5.4.1 and 6.8.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .frames import LARGEST, PING, ErrorCode, frame, goaway_frame

if TYPE_CHECKING:
    from .connection import Connection

#: How long a client whose connection ends may take to read what it was told.
_LINGER_S = 5.0
#: How long a client may take to learn that it should open no more streams.
_NOTICE_S = 0.1
_NOTICE_PING = b"goodbye."


class Leaving:
    """The end of a connection.

    Args:
        connection: What ends.
        loop: The event loop.

    Attributes:
        has_begun: Whether streams that are opened now are not answered.
    """

    __slots__ = ("_connection", "_loop", "_promised", "_timer", "has_begun")

    def __init__(self, connection: Connection[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        # The highest stream that is answered, as far as the client was told.
        self._promised = LARGEST
        self._timer: asyncio.TimerHandle | None = None
        self.has_begun = False

    def announce(self) -> None:
        """Ask the client to open no more streams."""
        if self._timer is None:
            # First the largest number, since streams may be on their way; the last one is said once the client knows.
            said = goaway_frame(LARGEST, ErrorCode.NO_ERROR) + frame(PING, 0, 0, _NOTICE_PING)
            self._connection.outgoing.write(said)
            self._timer = self._loop.call_later(_NOTICE_S, self._last_call)

    def on_pong(self, payload: bytes) -> None:
        """Take the answer to a ping: the client knows."""
        if payload == _NOTICE_PING and self._timer is not None:
            self._last_call()

    def on_goaway(self) -> None:
        """Take note that the client opens no more streams; those that are open it wants answered."""
        self.has_begun = True
        self.close_if_done()

    def close_if_done(self) -> None:
        """Close once every stream that was open is answered."""
        if self.has_begun and not self._connection.streams and not self._connection.is_closed:
            self._close()

    def fail(self, code: ErrorCode, text: str) -> None:
        """Say why, and close."""
        connection = self._connection
        connection.outgoing.write(goaway_frame(min(connection.last, self._promised), code, text))
        self._close()

    def stop(self) -> None:
        """Do nothing more: there is no connection any longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _last_call(self) -> None:
        connection = self._connection
        if not self.has_begun and not connection.is_closed:
            self.has_begun = True
            self._promised = connection.last
            connection.outgoing.write(goaway_frame(connection.last, ErrorCode.NO_ERROR))
            self.close_if_done()

    def _close(self) -> None:
        self.stop()
        self._connection.close()
        self._timer = self._loop.call_later(_LINGER_S, self._connection.abort)

"""Frames that are about the connection or a stream, and bring nothing to answer.

Source: RFC 9113, sections 6.3 to 6.9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .frames import (
    ACK,
    DEFAULT_FRAME_BYTES,
    ENABLE_PUSH,
    GOAWAY,
    INITIAL_WINDOW_SIZE,
    LARGEST,
    LARGEST_FRAME_BYTES,
    MAX_FRAME_SIZE,
    NUMBER,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFaultError,
    ErrorCode,
    frame,
)

if TYPE_CHECKING:
    from .connection import Connection

#: Open streams whose windows are changed for the price of one frame.
_STREAMS_A_FRAME = 16


def _on_priority(_: Connection[Any], __: int, number: int, payload: bytes) -> None:
    if number == 0:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
    _expect(payload, 5)


def _on_reset(connection: Connection[Any], _: int, number: int, payload: bytes) -> None:
    _expect(payload, 4)
    if number == 0 or number > connection.last:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on a stream that nobody opened")
    connection.forget(number)


def _on_settings(connection: Connection[Any], flags: int, number: int, payload: bytes) -> None:
    if number:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
    if flags & ACK:
        _expect(payload, 0)
        return
    if len(payload) % SETTING.size:
        raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that are cut off")
    connection.spend(len(payload) // SETTING.size)
    for name, value in SETTING.iter_unpack(payload):
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
        if name == INITIAL_WINDOW_SIZE:
            _change_windows(connection, value)
        elif name == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE outside its bounds")
            connection.outgoing.frame_bytes = value
    connection.outgoing.write(frame(SETTINGS, ACK, 0))


def _change_windows(connection: Connection[Any], value: int) -> None:
    if value > LARGEST:
        raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
    outgoing = connection.outgoing
    # Every open stream is touched.
    connection.spend(len(connection.streams) // _STREAMS_A_FRAME)
    by, outgoing.initial_window = value - outgoing.initial_window, value
    for stream in tuple(connection.streams.values()):
        if not outgoing.open_window(stream, by):
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")


def _on_push(_: Connection[Any], __: int, ___: int, ____: bytes) -> None:
    raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")


def _on_ping(connection: Connection[Any], flags: int, number: int, payload: bytes) -> None:
    _expect(payload, 8)
    if number:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
    if flags & ACK:
        connection.leaving.on_pong(payload)
    else:
        connection.outgoing.write(frame(PING, ACK, 0, payload))


def _on_goaway(connection: Connection[Any], _: int, number: int, payload: bytes) -> None:
    if number:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(payload) < 8:
        raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY that is cut off")
    connection.leaving.on_goaway()


def _on_window(connection: Connection[Any], _: int, number: int, payload: bytes) -> None:
    _expect(payload, 4)
    credit = NUMBER.unpack(payload)[0] & LARGEST
    if number > connection.last:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that nobody opened")
    if number == 0:
        if credit == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        connection.outgoing.open_window(None, credit)
        return
    stream = connection.streams.get(number)
    if stream is None:
        return
    if credit == 0:
        stream.on_closed()
        connection.reset(stream, ErrorCode.PROTOCOL_ERROR)
    elif not connection.outgoing.open_window(stream, credit):
        stream.on_closed()
        connection.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)


def _expect(payload: bytes, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, f"a payload of {len(payload)} bytes where {size} belong")


#: Kind of frame to what takes it: connection, flags, stream, payload. Others are none of ours and are passed over
#: (section 4.1).
CONTROLS: dict[int, Callable[[Connection[Any], int, int, bytes], None]] = {
    PRIORITY: _on_priority,
    RST_STREAM: _on_reset,
    SETTINGS: _on_settings,
    PUSH_PROMISE: _on_push,
    PING: _on_ping,
    GOAWAY: _on_goaway,
    WINDOW_UPDATE: _on_window,
}

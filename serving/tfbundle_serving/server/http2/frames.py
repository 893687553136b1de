"""What HTTP/2 connections consist of: frames of nine bytes and a payload.

Source: RFC 9113, sections 4, 6 and 7.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from tfbundle_serving.apis.errors import BundleError

#: What a client sends before anything else.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

#: Bytes before a payload.
HEAD_BYTES = 9
#: A frame's first bytes: payload length (24 bits) and kind (8), flags, stream.
HEAD = Struct(">IBI")
#: One entry of a SETTINGS frame.
SETTING = Struct(">HI")
#: Payload of RST_STREAM and WINDOW_UPDATE.
NUMBER = Struct(">I")

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

#: Of windows and of stream numbers.
LARGEST = (1 << 31) - 1
#: Until a side's SETTINGS say otherwise.
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_BYTES = 16_384
LARGEST_FRAME_BYTES = (1 << 24) - 1
#: Bytes that frames other than DATA may have here, and headers over several: what is larger nobody needs, and it is put
#: together from received pieces, each time anew.
SMALL_FRAME_BYTES = 1 << 16


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFaultError(BundleError):
    """The other side broke a rule that ends the connection.

    Attributes:
        code: What it is told.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(values: dict[int, int]) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*each) for each in values.items()))


def goaway_frame(last_stream: int, code: int, text: str = "") -> bytes:
    """Write a GOAWAY frame: streams up to the last one are still answered."""
    return frame(GOAWAY, 0, 0, NUMBER.pack(last_stream) + NUMBER.pack(code) + text.encode("utf-8", "replace")[:200])


def reset_frame(stream: int, code: int) -> bytes:
    """Write a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def window_frame(stream: int, credit: int) -> bytes:
    """Write a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(credit))

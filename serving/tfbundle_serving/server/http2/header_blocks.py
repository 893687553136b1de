"""Compressed headers: read with the dynamic table that the other side fills, written without any.

What we write uses the static table and literals that nobody has to remember. So our blocks do not depend on what was
sent before, and those of the usual answers are constants.

Source: RFC 7541.
"""

from __future__ import annotations

from collections.abc import Iterable

from .huffman import decode_huffman

Header = tuple[bytes, bytes]

#: What each entry of the dynamic table counts beside its text, and each header in a list.
ENTRY_BYTES = 32
#: Of the dynamic table; we leave the standard's own figure.
_TABLE_BYTES = 4096
#: A number of more bytes than this is no length or index that could be meant.
_LONGEST_NUMBER = 5


class HeaderBlockError(Exception):
    """A block that is none: from now on both sides would hold different tables."""


def _static_table() -> tuple[Header, ...]:
    lines = """
    :authority
    :method GET
    :method POST
    :path /
    :path /index.html
    :scheme http
    :scheme https
    :status 200
    :status 204
    :status 206
    :status 304
    :status 400
    :status 404
    :status 500
    accept-charset
    accept-encoding gzip, deflate
    accept-language
    accept-ranges
    accept
    access-control-allow-origin
    age
    allow
    authorization
    cache-control
    content-disposition
    content-encoding
    content-language
    content-length
    content-location
    content-range
    content-type
    cookie
    date
    etag
    expect
    expires
    from
    host
    if-match
    if-modified-since
    if-none-match
    if-range
    if-unmodified-since
    last-modified
    link
    location
    max-forwards
    proxy-authenticate
    proxy-authorization
    range
    referer
    refresh
    retry-after
    server
    set-cookie
    strict-transport-security
    transfer-encoding
    user-agent
    vary
    via
    www-authenticate
    """.strip().encode()
    pairs = (line.strip().partition(b" ") for line in lines.splitlines())
    return tuple((name, value) for name, _, value in pairs)


STATIC = _static_table()
_INDEX = {header: number for number, header in reversed(list(enumerate(STATIC, 1)))}
_NAME_INDEX = {name: number for number, (name, _) in reversed(list(enumerate(STATIC, 1)))}


def encode_headers(headers: Iterable[Header]) -> bytes:
    """Write a block of headers; names in lower case."""
    return b"".join(map(_encode, headers))


def _encode(header: Header) -> bytes:
    name, value = header
    if header in _INDEX:
        return bytes((0x80 | _INDEX[header],))
    start = _number(_NAME_INDEX[name], 4) if name in _NAME_INDEX else b"\x00" + _number(len(name), 7) + name
    return start + _number(len(value), 7) + value


def _number(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((value,))
    out = bytearray((most,))
    value -= most
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class HeaderDecoder:
    """Reads the blocks of one connection, in the order in which they came.

    Args:
        max_bytes: Bytes that a list of headers may have (RFC 9113, section 6.5.2); of longer ones the rest is read
            and dropped.

    Attributes:
        is_changed: Whether the last block changed the table; one that did not means the same when it comes again.
        is_cut: Whether the last list of headers was too long.
    """

    __slots__ = ("_limit", "_max_bytes", "_size", "_table", "is_changed", "is_cut")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._table: list[Header] = []
        self._size = 0
        self._limit = _TABLE_BYTES
        self.is_changed = False
        self.is_cut = False

    def decode(self, block: bytes) -> list[Header]:
        """Read a block.

        Raises:
            HeaderBlockError: It is none.
        """
        self.is_changed = self.is_cut = False
        try:
            return self._decode(block)
        except (IndexError, ValueError) as error:
            raise HeaderBlockError(f"a block of headers that is none: {error}") from None

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        size = at = 0
        end = len(block)
        while at < end:
            first = block[at]
            if first > 0x80:
                if first < 0xFF:
                    index = first & 0x7F
                    at += 1
                else:
                    index, at = _read_number(block, at, 7)
                header = self._entry(index)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise ValueError("a change of the table's size behind a header")
                limit, at = _read_number(block, at, 5)
                if limit > _TABLE_BYTES:
                    raise ValueError("a table larger than allowed")
                self._limit, self.is_changed = limit, True
                self._shrink()
                continue
            else:
                is_kept = first & 0x40
                index, at = _read_number(block, at, 6 if is_kept else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                header = (name, value)
                if is_kept:
                    self._add(header)
            size += ENTRY_BYTES + len(header[0]) + len(header[1])
            if size <= self._max_bytes:
                headers.append(header)
        self.is_cut = size > self._max_bytes
        return headers

    def _entry(self, index: int) -> Header:
        if index > len(STATIC):
            return self._table[index - len(STATIC) - 1]
        if index == 0:
            raise ValueError("index 0")
        return STATIC[index - 1]

    def _add(self, header: Header) -> None:
        self.is_changed = True
        self._table.insert(0, header)
        self._size += ENTRY_BYTES + len(header[0]) + len(header[1])
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._limit:
            name, value = self._table.pop()
            self._size -= ENTRY_BYTES + len(name) + len(value)


def _read_number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for place in range(_LONGEST_NUMBER):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    is_coded = block[at] & 0x80
    length, at = _read_number(block, at, 7)
    stop = at + length
    if stop > len(block):
        raise ValueError("a string that is cut off")
    text = block[at:stop]
    return (decode_huffman(text) if is_coded else text), stop

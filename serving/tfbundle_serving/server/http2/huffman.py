"""Strings in Huffman code, as header fields may carry them; read only, since we write none.

The code is canonical: symbols of equal length have consecutive codes in the order of their values, and longer codes
follow shorter ones. So the lengths say everything.

Source: RFC 7541, section 5.2 and appendix B.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

#: Bits of the code of each byte, and of the symbol that ends a string (256).
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505050606060606"
    "060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f050605060506060605070706060605"
    "06070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715"
    "1716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_LONGEST = 30
#: Bytes of strings that are remembered, those that clients send with every call: longer ones would fill the memory.
_KNOWN_BYTES = 256
_END = 256


def _classes() -> tuple[list[int], list[tuple[int, int, int]], list[int]]:
    """Sort the symbols into classes of equal length.

    Returns:
        The first code of each class, filled up to 30 bits; (length, first code, symbols before it) of each class; and
        the symbols in the order of their codes.
    """
    symbols = sorted(range(len(_LENGTHS)), key=lambda symbol: (_LENGTHS[symbol], symbol))
    starts: list[int] = []
    classes: list[tuple[int, int, int]] = []
    code = length = 0
    for place, symbol in enumerate(symbols):
        if _LENGTHS[symbol] != length:
            code <<= _LENGTHS[symbol] - length
            length = _LENGTHS[symbol]
            starts.append(code << (_LONGEST - length))
            classes.append((length, code, place))
        code += 1
    return starts, classes, symbols


_STARTS, _CLASSES, _SYMBOLS = _classes()


def decode_huffman(data: bytes) -> bytes:
    """Read a string in Huffman code.

    Raises:
        ValueError: It is none: the end symbol is in it, or its padding is longer than 7 bits or not all ones.
    """
    return _decode_known(data) if len(data) <= _KNOWN_BYTES else _decode(data)


@lru_cache(maxsize=1024)
def _decode_known(data: bytes) -> bytes:
    return _decode(data)


def _decode(data: bytes) -> bytes:
    out = bytearray()
    bits = have = at = 0
    while True:
        while have < _LONGEST and at < len(data):
            bits = bits << 8 | data[at]
            have += 8
            at += 1
        # Behind the end stand ones, as in the padding.
        peek = bits >> (have - _LONGEST) if have >= _LONGEST else (bits + 1 << _LONGEST - have) - 1
        length, first, before = _CLASSES[bisect_right(_STARTS, peek) - 1]
        if length > have:
            break
        symbol = _SYMBOLS[before + (peek >> _LONGEST - length) - first]
        if symbol == _END:
            raise ValueError("the end symbol inside a string")
        out.append(symbol)
        have -= length
        bits &= (1 << have) - 1
    if have > 7 or bits != (1 << have) - 1:
        raise ValueError("a string ends inside a symbol")
    return bytes(out)

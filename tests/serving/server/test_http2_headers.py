"""Header blocks of HTTP/2: which headers make a call, and the codec, judged by an independent one."""

from __future__ import annotations

import contextlib
import struct

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.server.http2_peer import HELLO, REQUEST, Peer, call, message, with_header
from tfbundle_serving.server.grpc_heads import read_head
from tfbundle_serving.server.grpc_methods import find_in
from tfbundle_serving.server.http2.frames import (
    ErrorCode,
)
from tfbundle_serving.server.http2.header_blocks import STATIC, HeaderBlockError, HeaderDecoder, encode_headers
from tfbundle_serving.server.http2.huffman import decode_huffman


@pytest.mark.parametrize(
    ("headers", "status", "grpc_status"),
    [
        (with_header(b"content-type", b"text/plain"), b"415", None),
        (with_header(b"content-type", b""), b"415", None),
        ([(b":method", b"GET"), *REQUEST[1:]], b"405", None),
        (with_header(b"grpc-encoding", b"snappy"), b"200", b"12"),
        (with_header(b"content-type", b"application/grpc+proto"), b"200", b"0"),
        (with_header(b"grpc-timeout", b"soon"), b"200", b"0"),
        (with_header(b"grpc-timeout", b"1H"), b"200", b"0"),
        (with_header(b"x", b"y" * 20_000), b"200", b"8"),
    ],
)
def test_headers(peer: Peer, headers: list[tuple[bytes, bytes]], status: bytes, grpc_status: bytes | None) -> None:
    """What is no gRPC gets a status of HTTP, what cannot be served one of gRPC."""
    peer.send(HELLO, call(1, headers=headers))
    got = peer.answer(1)[1]
    assert (got[b":status"], got.get(b"grpc-status")) == (status, grpc_status)


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[1:],
        [*REQUEST, REQUEST[0]],
        [REQUEST[0], *REQUEST],
        with_header(b"Upper", b"x"),
        with_header(b"connection", b"close"),
        with_header(b"x", b"a\r\nb"),
    ],
)
def test_malformed_headers(peer: Peer, headers: list[tuple[bytes, bytes]]) -> None:
    """They end their stream, not the connection."""
    peer.send(HELLO, call(1, headers=headers), call(3))
    assert peer.answer(1)[1] == {b"reset": struct.pack(">I", ErrorCode.PROTOCOL_ERROR)}
    assert peer.answer(3)[0] == message(b"hi")


def test_huffman_code() -> None:
    """An independent encoder's strings are read; what is none is refused."""
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    every = bytes(range(256))
    for text in (b"", b"a", b"www.example.com", every, every[::-1] * 3):
        assert decode_huffman(encoder.encode(text)) == text
    for bad in (b"\x00", b"\xff\xff\xff\xff", b"\xff" * 5, b"\x1f\xff", b"\xfe"):
        with pytest.raises(ValueError, match="string"):
            decode_huffman(bad)


names = st.sampled_from([b"a", b":path", b"grpc-timeout", b"x-long-name-of-a-header"])

lists = st.lists(st.lists(st.tuples(names, st.binary(max_size=120)), max_size=8), max_size=12)


@settings(max_examples=100, deadline=None)
@given(blocks=lists, sizes=st.lists(st.integers(0, 4096), max_size=3), huffman=st.booleans())
def test_compressed_headers(blocks: list[list[tuple[bytes, bytes]]], sizes: list[int], huffman: bool) -> None:
    """An independent encoder's blocks are read in order, and ours are read by an independent decoder."""
    encoder, decoder, judge = hpack.Encoder(), HeaderDecoder(1 << 20), hpack.Decoder()
    for number, headers in enumerate(blocks):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == headers
        assert [tuple(each) for each in judge.decode(encode_headers(headers), raw=True)] == headers
    assert STATIC == hpack.table.HeaderTable.STATIC_TABLE


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_blocks_that_are_none(block: bytes) -> None:
    """Any bytes are headers or a fault; what came out of them is a head of a call or is refused."""
    with contextlib.suppress(HeaderBlockError):
        read_head(HeaderDecoder(1000).decode(block), find_in({}))

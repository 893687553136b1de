"""CRC-32C: however long the bytes are, what is computed is what the polynomial says."""

from __future__ import annotations

import random

import pytest

from tfbundle_serving.apis.crc32c import SPARSE_MULTIPLE, crc32c, crc32c_of_each

#: Lengths around every place where another way of computing begins.
LENGTHS = (0, 1, 3, 4, 5, 127, 511, 512, 513, 4095, 4097, 16_383, 16_384, 45_479, 45_480, 45_481, 80_000, 150_001)


def by_bit(data: bytes) -> int:
    """Compute it as it is defined, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    """RFC 3720, section B.4, and the usual check value."""
    assert crc32c(data) == expected


def test_sparse_multiple_is_one() -> None:
    """The polynomial divides it: a message that is the multiple itself leaves nothing."""
    power, powers = 1 << 31, []
    for _ in range(SPARSE_MULTIPLE[0] + 1):
        powers.append(power)
        power = power >> 1 ^ (0x82F63B78 if power & 1 else 0)
    rest = 0
    for exponent in SPARSE_MULTIPLE:
        rest ^= powers[exponent]
    assert rest == 0


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length(length: int) -> None:
    """The result is the definition's, in one piece and in two, of a view as well as of bytes."""
    chance = random.Random(length)
    data = chance.randbytes(length)
    expected = by_bit(data)
    cut = chance.randrange(length + 1)
    assert crc32c(memoryview(data)) == expected
    assert crc32c(data[cut:], crc32c(data[:cut])) == expected


def test_many_at_once() -> None:
    """Side by side each has its own, in the order in which they were given."""
    chance = random.Random(1)
    messages = [chance.randbytes(chance.choice([0, 1, 3, 4, 7, 8, 300, 301, 2000, 20_000])) for _ in range(200)]
    assert crc32c_of_each(messages) == [crc32c(each) for each in messages]
    assert crc32c_of_each([]) == []

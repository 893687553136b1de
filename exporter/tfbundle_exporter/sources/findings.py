"""Something in a model file that a stranger should not be trusted with."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Data of this size may be packed as tightly as it likes.
_BOMB_MIN_BYTES = 1 << 30
#: Weights compress by a few per cent; a file that grows a hundredfold is made to.
_BOMB_RATIO = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a file that a stranger should not be trusted with.

    Attributes:
        place: The layer, entry or dataset.
        what: What it is, as the rest of a sentence.
        module: The module that holds what is missing, where the user may supply it; "" elsewhere.
    """

    place: str
    what: str
    module: str = ""

    def __str__(self) -> str:
        """Join both to a sentence."""
        return f"{self.place} {self.what}"


def is_bomb(unpacked_bytes: int, stored_bytes: int) -> bool:
    """Tell whether data grows so much on unpacking that only malice or a mistake explains it."""
    return unpacked_bytes > max(_BOMB_MIN_BYTES, _BOMB_RATIO * stored_bytes)


#: A pickle of protocol 2 or 3 begins with that number and an opcode, one of 4 or 5 with the length of its first frame;
#: those before are plain text and look like anything.
_PICKLE_HEAD = re.compile(rb"\x80([\x02\x03][(\])}cXUKJMGN\x8a\x8c]|[\x04\x05]\x95.{6}\x00\x00)", re.DOTALL)


def is_pickle(head: bytes) -> bool:
    """Tell by its first bytes, eleven at least, whether data is a pickle as Python has written them since 2.3."""
    return _PICKLE_HEAD.match(head) is not None

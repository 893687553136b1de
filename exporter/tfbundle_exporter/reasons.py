"""Why a library or a user's own code failed, in one line for people."""

from __future__ import annotations

import re

#: Keras 3 writes the names of layers in bold, to a terminal and to everything else.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def reason_of(error: BaseException, *, length: int = 300) -> str:
    """Give an exception's text in one line, without its class, without a terminal's colours.

    Args:
        error: What was raised.
        length: Characters after which it is cut off; libraries like to print whole tensors.
    """
    # A KeyError's text is the source code of its key.
    told = str(error.args[0]) if isinstance(error, KeyError) and len(error.args) == 1 else str(error)
    text = " ".join(_COLOURS.sub("", told).split())
    return text if len(text) <= length else f"{text[:length].rstrip()}..."

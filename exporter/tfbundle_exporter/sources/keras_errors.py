"""What the two Kerases say when they cannot load something, understood."""

from __future__ import annotations

import re

from ..reasons import reason_of

#: How both say that they do not know a class or function, the plainest way last.
_UNKNOWN_OBJECT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"Unknown [\w ]+ '\{[^}]*'config': '([^']+)'",
        r"(?:Unknown [\w ]+|Could not locate (?:class|function)):? '([^'{]+)'",
        r"Cannot deserialize object of type `([^`]+)`",
        r"Received: layer=(\w+) of type <class 'str'>",
    )
)


def unknown_name(error: BaseException) -> str:
    """Name the class or function that Keras did not know; "" if something else went wrong."""
    text = reason_of(error, length=10_000)
    found = next((match for match in (pattern.search(text) for pattern in _UNKNOWN_OBJECT) if match), None)
    return found[1] if found else ""

"""What a caller may have meant, for connections that fail as those to a port of another kind do."""

from __future__ import annotations

import re

#: Scheme, what the libraries then say, and the question. Where gRPC's core names an address, it was connecting: a
#: connection that had worked before ends without one.
_HINTS: tuple[tuple[str, re.Pattern[str], str], ...] = tuple(
    (scheme, re.compile(pattern, re.IGNORECASE), hint)
    for scheme, pattern, hint in (
        (
            "grpc",
            r"failed parsing HTTP/2|^ipv[46]:.*(socket closed|connection reset|broken pipe)",
            "is this the REST port, or is grpcs:// needed?",
        ),
        ("grpcs", "wrong_version_number", "the port has no TLS; is grpc:// meant?"),
        ("http", "remote end closed|server disconnected|connection reset", "is https:// meant?"),
        ("https", "wrong_version_number", "the port has no TLS; is http:// meant?"),
    )
)


def hint_of(url: str, reason: str) -> str:
    """Give the question that goes behind a reason, "; " in front of it; "" where none does.

    Args:
        url: The server's address.
        reason: What the libraries say of the failed connection.
    """
    scheme = url.partition(":")[0]
    return next((f"; {hint}" for kind, said, hint in _HINTS if kind == scheme and said.search(reason)), "")

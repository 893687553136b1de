"""What a gRPC service consists of: methods, found by what a call's headers say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tfbundle_serving.apis.errors import ApiError, Unimplemented
from tfbundle_serving.apis.wire import Readable

from .http2.header_blocks import Header


class Call(Protocol):
    """What a handler is given."""

    @property
    def bytes_in(self) -> int:
        """Bytes of the request's message, as far as it came."""

    @property
    def has_expired(self) -> bool:
        """Whether its time was up."""

    def message(self) -> Readable:
        """Give the request's message.

        Raises:
            ApiError: There is none that could be read.
        """

    def time_remaining(self) -> float | None:
        """Give the seconds that the client still waits; None means for ever."""

    def peer(self) -> str:
        """Give the client's address."""


#: Gives the reply's message.
Handler = Callable[[Call], Awaitable[bytes]]
#: Gives one message after the other.
StreamHandler = Callable[[Call], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        handler: Answers with one message; raises ApiError or DecodeError.
        streams: Answers with many, instead of `handler`.
        takes_message: Whether it waits for the request's message.
    """

    handler: Handler | None = None
    streams: StreamHandler | None = None
    takes_message: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call's headers say.

    Attributes:
        path: "/package.Service/Method".
        headers: All that are not HTTP/2's own, names in lower case.
    """

    path: str
    headers: Sequence[Header]


#: Finds the method that a call asks for; always finds one, which may be one that refuses.
Find = Callable[[Asked], Method]


def refusing(error: ApiError) -> Method:
    """Make a method that answers with an error, and reads nothing of the request, however large it is."""

    async def refuse(_: Call) -> bytes:
        raise error

    return Method(handler=refuse, takes_message=False)


def find_in(methods: Mapping[str, Method]) -> Find:
    """Find methods by their path; others are UNIMPLEMENTED, without a text, as C++ servers say it."""

    def find(asked: Asked) -> Method:
        method = methods.get(asked.path)
        return method if method is not None else refusing(Unimplemented(""))

    return find

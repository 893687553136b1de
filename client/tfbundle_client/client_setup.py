"""How a client is set up: what `Client` and `AsyncClient` are made with, and what all their calls share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Literal, NoReturn, TypeVar

from tfbundle_serving.apis.errors import FailedPrecondition
from tfbundle_serving.apis.model_spec import ModelSpec

from .calls import flows_examples
from .calls.deadline import Deadline
from .calls.flows import Flow, Result, Tries
from .calls.hooks import CallHeaders, Hooks, Observer, OnRequest, OnResponse
from .calls.retry import Retry, Retrying
from .calls.sending import carry_out
from .calls.signature_cache import SignatureCache
from .calls.tracing import find_tracing
from .transports.address import Address, parse_address
from .transports.connection import Connection, Tls, check_headers
from .transports.transport import AsyncTransport, Transport

Self = TypeVar("Self", bound="ClientSetup")


class Unset(Enum):
    """Tells "not given" from None."""

    UNSET = "the client's own setting"


UNSET: Final = Unset.UNSET
Timeout = float | None | Unset

#: Seconds that a call may take unless the caller says otherwise.
DEFAULT_TIMEOUT_S = 60.0

_DEFAULT_RETRY = Retry()
#: Kind of transport to the seconds in which it makes no new connection after one that failed. gRPC's own back-off is at
#: least 100 ms and varies by a fifth; a message sent within it fails at once.
_RECONNECT_S = {"gRPC": 0.13}


class ClientSetup(ABC):
    """What both clients are made of: an address, a transport, and how calls go over it."""

    _transport: Transport | AsyncTransport

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        retry: Retry | None = _DEFAULT_RETRY,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | Callable[[], str] | None = None,
        tls: Tls | None = None,
        compression: Literal["gzip"] | None = None,
        session: Any = None,
        channel: Any = None,
        channel_options: Mapping[str, int | str] | None = None,
        on_request: OnRequest | None = None,
        on_response: OnResponse | None = None,
        version_ttl_s: float = 0.25,
    ) -> None:
        """Set a client up; nothing is sent yet.

        Args:
            url: grpc://host:port, grpcs://host:port, http://host:port, https://host:port, unix:/path,
                dns:///host:port, or several with commas between (see `address`). local:models/digits runs the versions
                of a folder in this process, where TensorFlow is installed (see `local.folder`).
            timeout: Seconds that each call may take in all, look-ups and retries included; None means no limit.
            retry: When a failed message is sent again; None means never.
            headers: Sent with every request, as HTTP headers or as gRPC metadata.
            bearer_token: Sent as `Authorization: Bearer ...`; a function is asked before each request.
            tls: Whom to trust and who we are, for grpcs:// and https://.
            compression: "gzip" compresses requests, which pays on slow links only.
            session: A `requests.Session` (for AsyncClient an `aiohttp.ClientSession`) to use instead of an own one; it
                stays open when the client closes. Its adapters decide whether the read timeout is for the whole answer
                (see `total_timeout`).
            channel: A `grpc.Channel` (for AsyncClient a `grpc.aio.Channel`) to use instead of an own one; likewise.
            channel_options: gRPC channel arguments that are added to or replace our own.
            on_request: Called before each message; see `hooks`.
            on_response: Called after each message.
            version_ttl_s: Over REST, for how many seconds the look-up of the latest version or of a label holds (see
                `flows`); gRPC needs none.

        Raises:
            InvalidArgument: The address is none, or a setting does not go with it.
        """
        self._address = parse_address(url)
        Deadline.after(timeout)  # refuses what is no timeout here, where it was written
        connection = Connection(
            headers=headers or {},
            bearer_token=bearer_token,
            tls=tls,
            compression=compression,
            channel_options=channel_options or {},
            session=session,
            channel=channel,
        )
        self._transport = self._open(self._address, connection)
        self._timeout_s = timeout
        self._retrying = Retrying(retry, reconnect_s=_RECONNECT_S.get(self._transport.name, 0.0))
        self._cache = SignatureCache()
        self._looking = flows_examples.Looking(
            cache=self._cache, names_version=self._transport.names_version, version_ttl_s=version_ttl_s
        )
        self._hooks = (on_request, on_response)
        self._headers: Mapping[str, str] = {}
        self._observers = self._find_observers()
        self._is_closed = False
        self._is_copy = False

    @abstractmethod
    def _open(self, address: Address, connection: Connection) -> Transport | AsyncTransport:
        """Make the transport to an address; nothing is sent yet."""

    def _find_observers(self) -> tuple[Observer, ...]:
        on_request, on_response = self._hooks
        found: list[Observer] = [] if not self._headers else [CallHeaders(tuple(self._headers.items()))]
        tracing = find_tracing(self._transport.name, self._address)
        if tracing is not None:
            found.append(tracing)
        if on_request is not None or on_response is not None:
            found.append(
                Hooks(
                    transport=self._transport.name,
                    address=self._address.url,
                    on_request=on_request,
                    on_response=on_response,
                )
            )
        return tuple(found)

    def with_options(
        self: Self,
        *,
        timeout: Timeout = UNSET,
        retry: Retry | Unset | None = UNSET,
        headers: Mapping[str, str] | Unset = UNSET,
        on_request: OnRequest | Unset | None = UNSET,
        on_response: OnResponse | Unset | None = UNSET,
    ) -> Self:
        """Make a client with other settings on the same connections; what is not given stays as it is.

        The connections are those of the client that was made first: they close with it, and closing a copy leaves them
        open.

        Args:
            timeout: Seconds that each call may take in all; None means no limit.
            retry: When a failed message is sent again, with a budget of its own; None means never.
            headers: Sent as well; one of the same name as before takes its place.
            on_request: Called before each message.
            on_response: Called after each message.

        Raises:
            InvalidArgument: A setting is none.
        """
        copy: Self = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._is_copy = True
        if timeout is not UNSET:
            Deadline.after(timeout)
            copy._timeout_s = timeout
        if retry is not UNSET:
            copy._retrying = Retrying(retry, reconnect_s=_RECONNECT_S.get(self._transport.name, 0.0))
        if headers is not UNSET:
            check_headers(headers)
            copy._headers = {**self._headers, **{name.lower(): value for name, value in headers.items()}}
        old_request, old_response = self._hooks
        copy._hooks = (
            old_request if on_request is UNSET else on_request,
            old_response if on_response is UNSET else on_response,
        )
        copy._observers = copy._find_observers()
        return copy

    @property
    def url(self) -> str:
        """The server's address."""
        return self._address.url

    @property
    def transport(self) -> str:
        """The kind of transport: gRPC, REST or local."""
        return self._transport.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.url!r})"

    def __reduce__(self) -> NoReturn:
        # Its token and its key would stand in the pickle, its connections could not.
        raise TypeError(f"a {type(self).__name__} cannot be pickled: it holds connections; make one in each process")

    def _deadline(self, timeout: Timeout) -> Deadline:
        return Deadline.after(self._timeout_s if timeout is UNSET else timeout)

    def _carry_out(
        self, flow: Flow[Result], spec: ModelSpec, tries: Tries, retrying: Retrying | None = None
    ) -> Flow[Result]:
        if self._is_closed:
            raise FailedPrecondition(f"the client of {self._address} is closed", model=spec.name or None, attempts=0)
        return carry_out(flow, spec, tries, retrying or self._retrying, self._observers)

"""The blocking client: it drives the flows over one transport."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from tfbundle_serving.apis.errors import BundleError, FailedPrecondition, InvalidArgument
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus

from . import flows
from .address import Address, parse_address
from .deadline import Deadline
from .flows import Flow, Pause, Result
from .input_fitting import Casting
from .prediction import Prediction
from .signature_cache import SignatureCache
from .transport import Transport

if TYPE_CHECKING:
    import grpc
    import requests


class Unset(Enum):
    """Tells "not given" from None."""

    UNSET = "the client's own setting"


UNSET: Final = Unset.UNSET
Timeout = float | None | Unset

#: Seconds that a call may take unless the caller says otherwise.
DEFAULT_TIMEOUT_S = 60.0


class Client:
    """Calls models on one server, TensorFlow Serving or the embedded one, over gRPC or REST.

        with Client("grpc://localhost:8500") as client:
            r = client.predict("digits", images)
            r["probabilities"], r.version

    A client connects when it is first used. It may be shared by threads, and used after a fork.

    Args:
        url: grpc://host:port, http://host:port or https://host:port.
        timeout: Seconds that each call may take in all, look-ups included; None means no limit.
        headers: Sent with every request, as HTTP headers or as gRPC metadata.
        session: A `requests.Session` to use instead of an own one; it stays open when the client closes. Its adapters
            decide whether the read timeout is for the whole answer (see `total_timeout`).
        channel: A `grpc.Channel` to use instead of an own one; it stays open when the client closes.
        channel_options: gRPC channel arguments that are added to or replace our own.
        version_ttl_s: Over REST, for how many seconds the look-up of the latest version or of a label holds (see
            `flows`); gRPC needs none.

    Raises:
        InvalidArgument: The address is none, or a session or channel does not go with it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        session: requests.Session | None = None,
        channel: grpc.Channel | None = None,
        channel_options: Mapping[str, int | str] | None = None,
        version_ttl_s: float = 0.25,
    ) -> None:
        self._address = parse_address(url)
        Deadline.after(timeout)  # refuses what is no timeout here, where it was written
        self._timeout_s = timeout
        self._version_ttl_s = version_ttl_s
        self._cache = SignatureCache()
        self._is_closed = False
        self._transport = _open(self._address, headers, session, channel, channel_options)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._address.url

    @property
    def transport(self) -> str:
        """The kind of transport: gRPC or REST."""
        return self._transport.name

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: str | Sequence[str] = (),
        casting: Casting = "safe",
        timeout: Timeout = UNSET,
    ) -> Prediction:
        """Run a signature.

        Args:
            model: Model name.
            inputs: {input name: array}, or one array for a signature with one input. Lists and numbers are taken as
                well; see `input_fitting` for what is converted to what.
            version: A version; by default the highest that is AVAILABLE.
            label: A version label, such as "canary"; not together with a version.
            signature: Signature name; by default serving_default.
            outputs: Names of the wanted outputs; by default all.
            casting: "same_kind" also casts arrays where values are rounded (float64 to float32).
            timeout: Seconds for the whole call; None means no limit.

        Raises:
            SignatureMismatch: The inputs do not fit, or there is no such signature or output; nothing was sent.
            NotFound: There is no such model or version.
            InvalidArgument: There is no such label, or the model refuses the values.
            Unimplemented: The dtype does not travel over this transport.
            ConnectionFailed: Nothing answers at the address.
            DeadlineExceeded: No answer in time.
            ApiError: Another failure, by its status.
        """
        question = flows.Question(
            spec=ModelSpec(model, version, label, signature),
            inputs=inputs,
            outputs=tuple(dict.fromkeys([outputs] if isinstance(outputs, str) else outputs)),
            casting=casting,
            deadline=self._deadline(timeout),
        )
        flow = flows.predict(
            question,
            self._cache,
            names_version=self._transport.names_version,
            version_ttl_s=self._version_ttl_s,
        )
        return self._drive(flow, question.spec)

    def metadata(
        self, model: str, *, version: int | None = None, label: str | None = None, timeout: Timeout = UNSET
    ) -> ModelMetadata:
        """Ask for the signatures of a version, and which version that is.

        Raises:
            NotFound: There is no such model or version.
            InvalidArgument: There is no such label.
            ApiError: Another failure, by its status.
        """
        spec = ModelSpec(model, version, label)
        return self._drive(flows.metadata(spec, self._cache, self._deadline(timeout)), spec)

    def status(self, model: str, *, version: int | None = None, timeout: Timeout = UNSET) -> list[VersionStatus]:
        """Ask for the state of a model's versions, the highest first.

        Versions that are gone stay listed as END.

        Raises:
            NotFound: The server knows no such model or version.
            ApiError: Another failure, by its status.
        """
        spec = ModelSpec(model, version)
        return self._drive(flows.status(spec, self._cache, self._deadline(timeout)), spec)

    def wait_until_available(
        self, model: str, *, version: int | None = None, timeout: Timeout = UNSET
    ) -> VersionStatus:
        """Wait until a version answers requests: the one given, or any.

        A server that is not there yet, or does not know the model yet, is waited for.

        Returns:
            The status of that version; without one given, of the highest that is AVAILABLE.

        Raises:
            DeadlineExceeded: It did not happen in time; the message says what was seen last.
            FailedPrecondition: The version could not be loaded.
            ApiError: Another failure, by its status.
        """
        spec = ModelSpec(model, version)
        return self._drive(flows.wait_until_available(spec, self._cache, self._deadline(timeout)), spec)

    def close(self) -> None:
        """Close the connections; a session or channel that was given stays open."""
        self._is_closed = True
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._address.url!r})"

    def _deadline(self, timeout: Timeout) -> Deadline:
        return Deadline.after(self._timeout_s if isinstance(timeout, Unset) else timeout)

    def _drive(self, flow: Flow[Result], spec: ModelSpec) -> Result:
        if self._is_closed:
            raise FailedPrecondition(f"the client of {self._address} is closed", model=spec.name, attempts=0)
        try:
            return drive(flow, self._transport)
        except BundleError as error:
            flows.name_the_model(error, spec)
            raise


def _open(
    address: Address,
    headers: Mapping[str, str] | None,
    session: requests.Session | None,
    channel: grpc.Channel | None,
    channel_options: Mapping[str, int | str] | None,
) -> Transport:
    if address.transport == "gRPC":
        if session is not None:
            raise InvalidArgument(f"a requests.Session does not go with {address}", attempts=0)
        from .grpc_transport import GrpcTransport

        return GrpcTransport(address, headers=headers, channel=channel, channel_options=channel_options)
    if channel is not None or channel_options:
        raise InvalidArgument(f"a gRPC channel does not go with {address}", attempts=0)
    from .rest_transport import RestTransport

    return RestTransport(address, headers=headers, session=session)


def drive(flow: Flow[Result], transport: Transport) -> Result:
    """Do what a flow asks for, step by step, until it returns."""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                step = flow.send(None)
                continue
            try:
                reply = transport.send(step)
            except BundleError as error:
                step = flow.throw(error)
            else:
                step = flow.send(reply)
    except StopIteration as end:
        result: Result = end.value
        return result

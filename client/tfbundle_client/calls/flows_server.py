"""The client's steps that ask how a server is, rather than a model: waiting, health, another list of models.

Like those in `flows`, they yield calls and pauses and know no transport.
"""

from __future__ import annotations

from tfbundle_serving.apis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from tfbundle_serving.apis.health import ServingStatus
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.reload_config import ReloadReply

from ..transports.transport import HealthCall, HealthListCall, ReloadCall
from .deadline import Deadline
from .flows import Flow, Pause, send, status
from .signature_cache import SignatureCache

_FIRST_POLL_S, _LONGEST_POLL_S = 0.02, 0.5
_NO_MODEL = ModelSpec("")


def wait_until_available(spec: ModelSpec, cache: SignatureCache, deadline: Deadline) -> Flow[VersionStatus]:
    """Ask for the status until a version answers requests: the one of the spec, that of its label, or any.

    Raises:
        DeadlineExceeded: The time is up; the message says what was seen last.
        FailedPrecondition: The version of the spec could not be loaded; waiting would not help.
    """
    pause_s = _FIRST_POLL_S
    seen = ""
    while not deadline.has_passed:
        try:
            statuses = yield from status(ModelSpec(spec.name, None, spec.label), cache, deadline)
        except DeadlineExceeded:
            break
        except (Unavailable, NotFound) as error:
            seen = error.message
        except InvalidArgument as error:  # how servers say that there is no such label, or not yet
            if spec.label is None:
                raise
            seen = error.message
        else:
            wanted = [each for each in statuses if spec.version in (None, each.version)]
            available = next((each for each in wanted if each.is_available), None)
            if available is not None:
                return available
            seen = "; ".join(map(_describe, wanted)) or f"no version {spec.version}"
            if spec.version is not None and wanted and wanted[0].state is State.END and wanted[0].error_code:
                raise FailedPrecondition(
                    f"{spec} could not be loaded: {wanted[0].error_message}", model=spec.name, version=spec.version
                )
        left_s = deadline.remaining_s()
        yield Pause(pause_s if left_s is None else min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
    raise DeadlineExceeded(
        f"{spec} was not available within {deadline.timeout_s:g} s{f' ({seen})' if seen else ''}",
        model=spec.name,
        version=spec.version if spec.version is not None else spec.label,
    )


def _describe(each: VersionStatus) -> str:
    error = f": {each.error_message}" if each.error_message else ""
    return f"version {each.version} is {each.state.name}{error}"


def health(service: str, cache: SignatureCache, deadline: Deadline, *, asks_models: bool) -> Flow[bool]:
    """Ask whether the server, or a model of it, takes requests.

    A server without health checks, such as TensorFlow Serving without --enable_grpc_healthcheck_service, still tells
    the states of a model.

    Args:
        service: Model name; "" for the server as a whole.
        cache: Signatures seen so far.
        deadline: By when the answer must be here.
        asks_models: Whether the transport has health checks of models.

    Raises:
        NotFound: There is no such model or service.
        Unimplemented: The server as a whole cannot be asked.
    """
    if not service or asks_models:
        try:
            found = yield from send(HealthCall(spec=ModelSpec(service), deadline=deadline, service=service))
        except (Unimplemented, NotFound) as error:
            if not service:
                start = "start it with --enable_grpc_healthcheck_service" if asks_models else "gRPC may have one"
                raise Unimplemented(
                    f"the server has no health check ({error.message}); {start}, or ask for a model"
                ) from error
            if isinstance(error, NotFound):
                raise
        else:
            return found is ServingStatus.SERVING
    statuses = yield from status(ModelSpec(service), cache, deadline)
    return any(each.is_available for each in statuses)


def health_list(deadline: Deadline) -> Flow[dict[str, bool]]:
    """Ask for the health of everything that the server tells apart: name to whether it takes requests."""
    found = yield from send(HealthListCall(spec=_NO_MODEL, deadline=deadline))
    return {name: status is ServingStatus.SERVING for name, status in found.items()}


def reload_config(
    config: bytes, metric_names: tuple[str, ...], cache: SignatureCache, deadline: Deadline
) -> Flow[ReloadReply]:
    """Give the server another list of models, and forget what the old one meant."""
    reply = yield from send(ReloadCall(spec=_NO_MODEL, deadline=deadline, config=config, metric_names=metric_names))
    cache.clear()
    return reply

"""What is sent again, when, and how often; clock and chance are given."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from tfbundle_client import ApiError as AnyApiError
from tfbundle_client import BundleError, Retry
from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.calls.retry import Retrying
from tfbundle_client.transports.address import parse_address
from tfbundle_client.transports.grpc_messages import note_pushback
from tfbundle_client.transports.rest_messages import Answer, read_failure
from tfbundle_client.transports.transport import StatusCall
from tfbundle_serving.apis import errors
from tfbundle_serving.apis.errors import BY_CODE, ConnectionFailed, DecodeError, InvalidArgument, Unavailable
from tfbundle_serving.apis.model_spec import ModelSpec


def _told(error: AnyApiError, **known: Any) -> AnyApiError:
    for name, value in known.items():
        setattr(error, name, value)
    return error


def _retrying(retry: Retry | None = None, *, draw: float = 1.0, now: list[float] | None = None) -> Retrying:
    times = now or [0.0]
    return Retrying(retry or Retry(), draw=lambda: draw, clock=lambda: times[0])


@pytest.mark.parametrize("kind", [*BY_CODE.values(), errors.SignatureMismatch, ConnectionFailed])
def test_only_what_may_succeed_later_is_retried(kind: type[AnyApiError]) -> None:
    """Unavailable and its kin are; what cannot succeed, or has had its time, is not."""
    delay_s = _retrying().delay_s(kind("no"), 1, None)
    assert (delay_s is not None) == (kind in (Unavailable, ConnectionFailed))


def test_what_a_transport_knows_decides() -> None:
    """A 429 with a time to come back is retried after it; a message that is too large never is."""
    exhausted = _told(errors.ResourceExhausted("quota"), retry_after_s=2.0)
    assert _retrying(draw=0.5).delay_s(exhausted, 1, None) == pytest.approx(2.025)
    assert _retrying().delay_s(_told(Unavailable("x"), may_succeed_later=False), 1, None) is None
    asked_in = Retry(resource_exhausted=True)
    assert _retrying(asked_in).delay_s(errors.ResourceExhausted("quota"), 1, None) is not None
    assert _retrying(asked_in).delay_s(_told(errors.ResourceExhausted("x"), may_succeed_later=False), 1, None) is None
    assert _retrying().delay_s(DecodeError("no"), 1, None) is None


def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for() -> None:
    """Neither beyond the policy's limit nor beyond the deadline."""
    for asked_s, left_s in ((61.0, None), (5.0, 4.0)):
        assert _retrying().delay_s(_told(Unavailable("x"), retry_after_s=asked_s), 1, left_s) is None


def test_delays_double_and_are_drawn_from_nothing_to_the_whole() -> None:
    """Full jitter: the draw scales 50, 100, 200 ms and so on, up to a second."""
    retry = Retry(attempts=9)
    whole = [_retrying(retry).delay_s(Unavailable("x"), attempt, None) for attempt in range(1, 8)]
    assert whole == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert _retrying(retry, draw=0.0).delay_s(Unavailable("x"), 3, None) == 0.0


def test_connections_get_time_to_be_made_again() -> None:
    """Where a transport makes no new connection for a while, a message is not sent in vain within it."""
    retrying = Retrying(Retry(), reconnect_s=0.13, draw=lambda: 1.0)
    assert retrying.delay_s(ConnectionFailed("x"), 1, None) == pytest.approx(0.18)
    assert retrying.delay_s(ConnectionFailed("x"), 2, None) == pytest.approx(0.36)
    assert retrying.delay_s(Unavailable("x"), 1, None) == pytest.approx(0.05)


def test_attempts_and_deadline_end_it() -> None:
    """Three attempts, the first included, and none that would begin after the deadline; None never retries."""
    assert _retrying().delay_s(Unavailable("x"), 2, None) is not None
    assert _retrying().delay_s(Unavailable("x"), 3, None) is None
    assert _retrying().delay_s(Unavailable("x"), 1, 0.05) is None
    assert _retrying().delay_s(Unavailable("x"), 1, 0.06) is not None
    assert Retrying(None).delay_s(Unavailable("x"), 1, None) is None


def test_the_budget_limits_retries_to_a_share_of_the_calls() -> None:
    """Ten are there at once; then each ten calls earn one, and each second one."""
    now = [0.0]
    retrying = _retrying(now=now)

    def granted(times: int) -> int:
        return sum(retrying.delay_s(Unavailable("x"), 1, None) is not None for _ in range(times))

    assert granted(100) == 10
    for _ in range(51):
        retrying.count_call()
    assert granted(100) == 5
    now[0] = 3.0
    assert granted(100) == 3
    now[0] = 1e6
    assert granted(1000) == 100


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_delay_s": -1.0}, {"budget_ratio": float("nan")}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Numbers out of range are refused where they are written."""
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Retry(**wrong)
    assert issubclass(InvalidArgument, BundleError)


_CALL = StatusCall(spec=ModelSpec("m"), deadline=Deadline.after(None))
_ENDPOINT = parse_address("http://localhost:1").endpoints[0]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("²", None), ("soon", None)],
)
def test_when_to_come_back_over_rest(header: str | None, seconds: float | None) -> None:
    """Retry-After is a number of seconds or a date."""
    error = read_failure(Answer(429, b"{}", header), _CALL, _ENDPOINT)
    assert error.retry_after_s == seconds
    assert Retry().may_help(error) == (seconds is not None)


def test_a_date_to_come_back_at() -> None:
    """Of a date that is still to come the seconds until then are counted."""
    error = read_failure(Answer(429, b"{}", formatdate(time.time() + 100, usegmt=True)), _CALL, _ENDPOINT)
    assert error.retry_after_s == pytest.approx(100, abs=10)


@pytest.mark.parametrize(("pushback", "seconds"), [("250", 0.25), ("-1", None), ("x", None)])
def test_when_to_come_back_over_grpc(pushback: str, seconds: float | None) -> None:
    """A pushback is milliseconds; anything else means never."""
    error = Unavailable("busy")
    note_pushback(error, [("other", "1"), ("grpc-retry-pushback-ms", pushback)])
    assert error.retry_after_s == seconds
    assert Retry().may_help(error) == (seconds is not None)

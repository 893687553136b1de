"""Around a flow: each message is sent again where that may help, seen by observers, and its failure says who was asked.

This is a flow as well, so that the blocking and the asynchronous client need to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfbundle_serving.apis.errors import ApiError, BundleError, Cancelled
from tfbundle_serving.apis.model_spec import ModelSpec

from ..transports.transport import Call, MetadataCall
from .flows import Flow, Pause, Result, Tries, name_the_model
from .hooks import Finish, Observer
from .retry import Retrying


def carry_out(
    flow: Flow[Result], spec: ModelSpec, tries: Tries, retrying: Retrying, observers: Sequence[Observer]
) -> Flow[Result]:
    """Yield what a flow yields, messages as often as the policy allows.

    Args:
        flow: The steps.
        spec: What was asked for, for errors.
        tries: Counts the messages that are no look-ups.
        retrying: Says whether and when to send again.
        observers: See each message.
    """
    retrying.count_call()
    try:
        step = next(flow)
        while True:
            if isinstance(step, Pause):
                yield step
                step = flow.send(None)
                continue
            attempt = 1
            while True:
                try:
                    if step.__class__ is not MetadataCall:
                        tries.count += 1
                    reply = (yield from _seen(step, attempt, observers)) if observers else (yield step)
                except BundleError as error:
                    failure = error
                else:
                    step = flow.send(reply)
                    break
                delay_s = retrying.delay_s(failure, attempt, step.deadline.remaining_s())
                if delay_s is None:
                    if isinstance(failure, ApiError) and failure.attempts:
                        failure.attempts = attempt if step.__class__ is MetadataCall else tries.count
                    step = flow.throw(failure)
                    break
                yield Pause(delay_s)
                attempt += 1
    except StopIteration as end:
        result: Result = end.value
        return result
    except BundleError as error:
        name_the_model(error, spec)
        raise


def _seen(call: Call[Any], attempt: int, observers: Sequence[Observer]) -> Flow[Any]:
    """Yield a call with observers around it."""
    finishes: list[Finish] = []
    for observer in observers:
        call, finish = observer.begin(call, attempt)
        finishes.append(finish)
    failure: BaseException | None = None
    try:
        return (yield call)
    except GeneratorExit:
        failure = Cancelled("the caller gave up")
        raise
    except BaseException as error:
        failure = error
        raise
    finally:
        for finish in reversed(finishes):
            finish(failure)

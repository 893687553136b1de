"""A stream of batches, step by step: one version for all, and patience with a server that is away for a while.

Like `flows`, this knows no thread and no event loop; `batches_run` sends several batches at once and keeps their order.

Which version answers
    The version is looked up once, when the stream begins, and every batch asks for exactly that one, so that a rollout
    in the middle cannot mix two models. When it goes away the stream ends with NotFound.

What happens when a batch fails
    Each message is sent again by the client's own policy. Where that is used up and the server may come back (it
    restarts, it is overloaded, the network is away), the batch waits and is sent again until its time is over. A server
    that just came back and does not know its models yet is waited for as well. Models only answer: no row is counted
    twice, because a batch has one answer, whichever try brought it.
    A batch that is larger than the server joins requests to is sent in pieces of the size that the server names.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import ApiError, BundleError, Cancelled, InvalidArgument, NotFound, ResourceExhausted
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.signatures import Signature

from ..calls.deadline import Deadline
from ..calls.flows import Flow, Pause, find_signature, metadata
from ..calls.prediction import Prediction
from ..calls.retry import Retry
from ..calls.signature_cache import SignatureCache
from .cutting import Batch, cut_whole

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
#: Of a server that joins requests; TensorFlow's text.
_LARGEST_BATCH = re.compile(r"larger than maximum input batch size (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchPrediction(Prediction):
    """A model's answer to one batch of a stream.

    Attributes:
        first_row: Number of the batch's first row in the stream, from 0.
        rows: How many rows it had.
    """

    first_row: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How a stream is sent.

    Attributes:
        batch_size: Rows in a message at most.
        in_flight: Messages on their way at once.
        timeout_s: Seconds that each batch may take, waiting for a server that is away included; None means no limit.
        first_row: Number of the first row.
        pin_version: Whether the version that answers first answers all.

    Raises:
        InvalidArgument: A number is too small.
    """

    batch_size: int
    in_flight: int
    timeout_s: float | None
    first_row: int = 0
    pin_version: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name, least in (("batch_size", 1), ("in_flight", 1), ("first_row", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                raise InvalidArgument(f"{name} is a whole number of at least {least}, got {value!r}", attempts=0)
        Deadline.after(self.timeout_s)


#: Starts one predict call: the inputs, the version to ask for, the seconds that are left.
Ask = Callable[[Any, ModelSpec, float | None], Flow[Prediction]]


class Stream:
    """What the batches of one stream share; its flows may be driven by several threads.

    Args:
        data: What the caller gave.
        settings: How it is sent.
        spec: The version that all batches ask for.
        signature: What is called.
        ask: Starts one predict call.
        retry: The client's policy; None gives up at the first failure.
    """

    def __init__(
        self, data: Any, settings: StreamSettings, spec: ModelSpec, signature: Signature, ask: Ask, retry: Retry | None
    ) -> None:
        self.data = data
        self.settings = settings
        self.signature = signature
        self._spec = spec
        self._ask = ask
        self._retry = retry
        self._is_away = False
        self._is_closed = False
        self._most_rows: int | None = None

    def close(self) -> None:
        """Let batches that wait for the server wait no longer."""
        self._is_closed = True

    def answer(self, batch: Batch) -> Flow[BatchPrediction]:
        """Get the answer to one batch.

        Raises:
            BundleError: It has none; the message says which rows it is about and how many before them are answered.
        """
        deadline = Deadline.after(self.settings.timeout_s)
        try:
            most = self._most_rows
            if most is None or batch.rows <= most:
                try:
                    found = yield from self._insist(batch, deadline)
                    return _with_rows(found, batch)
                except InvalidArgument as error:
                    told = _LARGEST_BATCH.search(error.message)
                    if told is None or not 0 < int(told[1]) < batch.rows:
                        raise
                    most = self._most_rows = int(told[1])
            pieces = []
            for piece in self._cut(batch, most):
                pieces.append((yield from self._insist(piece, deadline)))
            return _with_rows(_join(pieces), batch)
        except BundleError as error:
            self._name_the_rows(error, batch)
            raise

    def _cut(self, batch: Batch, most: int) -> Iterator[Batch]:
        return cut_whole(batch.inputs, most, self.signature, batch.first_row) or iter(())

    def _insist(self, batch: Batch, deadline: Deadline) -> Flow[Prediction]:
        """Ask until there is an answer, an error that stands, or no time."""
        pause_s = _FIRST_PAUSE_S
        while True:
            left_s = deadline.remaining_s()
            try:
                found = yield from self._ask(batch.inputs, self._spec, None if left_s is None else max(left_s, 1e-3))
            except BundleError as error:
                wait_s = max(pause_s, getattr(error, "retry_after_s", None) or 0.0)
                left_s = deadline.remaining_s()
                if not self._may_come_back(error) or self._is_closed or (left_s is not None and left_s <= wait_s):
                    raise
            else:
                self._is_away = False
                return found
            yield Pause(wait_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _may_come_back(self, error: BundleError) -> bool:
        if self._retry is None:
            return False
        if self._retry.may_help(error) or isinstance(error, Cancelled):  # a server that stops cancels what it runs
            self._is_away = True
            return True
        return isinstance(error, NotFound) and self._is_away

    def _name_the_rows(self, error: BundleError, batch: Batch) -> None:
        message = error.message if isinstance(error, ApiError) else str(error)
        hint = ""
        if isinstance(error, ResourceExhausted) and not error.may_succeed_later:
            hint = "; a smaller batch_size may fit"
        elif isinstance(error, NotFound) and self.settings.pin_version:
            hint = "; all rows of a stream go to the version that it began with, unless pin_version=False"
        done = batch.first_row - self.settings.first_row
        where = f"rows {batch.first_row} to {batch.first_row + batch.rows - 1} ({done} before them answered)"
        error.args = (f"{where}: {message}{hint}",)


def open_stream(
    data: Any, settings: StreamSettings, spec: ModelSpec, cache: SignatureCache, ask: Ask, retry: Retry | None
) -> Flow[Stream]:
    """Look up which version and signature a stream goes to."""
    found = yield from metadata(spec, cache, Deadline.after(settings.timeout_s))
    signature = find_signature(found, spec.signature_key)
    if settings.pin_version:
        spec = ModelSpec(spec.name, found.version, None, spec.signature)
        cache.put(spec, found, time.monotonic())  # what a version is never changes
    return Stream(data, settings, spec, signature, ask, retry)


def _with_rows(found: Prediction, batch: Batch) -> BatchPrediction:
    known = {each.name: getattr(found, each.name) for each in fields(Prediction)}
    return BatchPrediction(**known, first_row=batch.first_row, rows=batch.rows)


def _join(pieces: list[Prediction]) -> Prediction:
    """Make one answer of several to consecutive rows."""
    outputs: Mapping[str, Any] = {
        name: np.concatenate([np.atleast_1d(piece[name]) for piece in pieces]) for name in pieces[0]
    }
    for array in outputs.values():
        array.flags.writeable = False
    return Prediction(
        model=pieces[0].model,
        version=pieces[-1].version,
        signature=pieces[0].signature,
        outputs=outputs,
        latency_s=sum(piece.latency_s for piece in pieces),
        attempts=sum(piece.attempts for piece in pieces),
    )

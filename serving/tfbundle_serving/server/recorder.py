"""The recorder: keeps some of the requests that were answered, as PredictionLogs, for parity, canaries and warm-ups.

A request is never slower or refused for it. Whether it is kept is decided by chance once it has been answered, as
TensorFlow Serving's request loggers do; then it waits, as it is, for a thread that writes about once a second. Where
too much waits, or the disk is full, requests are left out, which is counted and said once.

    :tensorflow:serving:request_log_count{model_name="digits",status="OK"} 31        written
    RESOURCE_EXHAUSTED    too much waited to be written, or the file has all the bytes that it may have
    UNAVAILABLE           the file could not be written

Source: tensorflow_serving/core/request_logger.cc, server_request_logger.cc.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tfbundle_serving.apis.errors import BundleError, InvalidArgument
from tfbundle_serving.apis.input_proto import Input
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.predict import PredictRequest
from tfbundle_serving.apis.prediction_log import LogMetadata, Request, prediction_log_chunks
from tfbundle_serving.apis.wire import Chunk, size_of

from .metrics import Metrics
from .record_file import RecordFile
from .record_settings import RecordSettings

log = logging.getLogger(__name__)

#: How long a request may wait to be written.
_FLUSH_S = 1.0
#: Bytes that may wait; more are left out. From an eighth on, nobody waits for the second to be over.
_MOST_WAITING_BYTES = 64 << 20
#: What a request weighs that has no values.
_WEIGHT_BYTES = 512
#: Bytes and records that are written at once.
_GROUP_BYTES, _GROUP_RECORDS = 4 << 20, 1000
#: How long the rest may take to be written at the end.
_STOP_S = 5.0
#: How often at most it is said that requests are left out.
_SAY_AGAIN_S = 60.0

_WRITTEN, _LEFT_OUT, _FAILED = "OK", "RESOURCE_EXHAUSTED", "UNAVAILABLE"


class Recorder(Protocol):
    """What the data plane knows of a recorder."""

    def wants(self, model: str, /) -> bool:
        """Decide whether a request that was answered is kept."""

    def take(self, request: Request, method_name: str, answered: ModelSpec) -> None:
        """Keep it; never waits. Called on the event loop alone.

        Args:
            request: As it was asked; nobody changes its arrays any more.
            method_name: Which call it is; "" for MultiInference.
            answered: The name and version that answered, and the signature where it is one.
        """

    def start(self, *, is_lenient: bool = False) -> None:
        """Begin to write.

        Args:
            is_lenient: Whether a file that cannot be written is logged and holds nobody up.

        Raises:
            InvalidArgument: The file cannot be written.
        """

    def stop(self) -> None:
        """Write what waits, for a short while at most, and end."""


class NullRecorder:
    """Keeps nothing."""

    def wants(self, _: str, /) -> bool:
        """Decide that a request is not kept."""
        return False

    def take(self, request: Request, method_name: str, answered: ModelSpec) -> None:
        """Keep nothing."""

    def start(self, *, is_lenient: bool = False) -> None:
        """Begin nothing."""

    def stop(self) -> None:
        """End nothing."""


def make_recorder(settings: RecordSettings | None, metrics: Metrics) -> Recorder:
    """Make the recorder that the settings ask for."""
    return FileRecorder(settings, metrics) if settings is not None and settings.rate > 0 else NullRecorder()


@dataclass(frozen=True, slots=True)
class _Sample:
    """A request that waits to be written."""

    request: Request
    method_name: str
    answered: ModelSpec
    time_s: int
    weight: int


class FileRecorder:
    """Appends to a file.

    Args:
        settings: Which requests, and which file.
        metrics: Counts them.
        seed: Of the chance, for tests.
        most_waiting_bytes: Bytes that may wait to be written.
    """

    def __init__(
        self,
        settings: RecordSettings,
        metrics: Metrics,
        *,
        seed: int | None = None,
        most_waiting_bytes: int = _MOST_WAITING_BYTES,
    ) -> None:
        self._settings = settings
        self._counts = metrics.logged_requests
        self._file = RecordFile(settings.file, settings.max_bytes)
        self._chance = random.Random(seed).random
        self._rate = settings.rate
        self._models = settings.models
        self._most = most_waiting_bytes
        self._waiting: deque[_Sample] = deque()
        # Each is changed by one thread alone, so that neither has to wait for the other.
        self._taken_bytes = 0
        self._done_bytes = 0
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._trouble = ""
        self._said_left_out = float("-inf")

    def wants(self, model: str, /) -> bool:
        """See `Recorder.wants`."""
        return self._chance() < self._rate and (not self._models or model in self._models)

    def take(self, request: Request, method_name: str, answered: ModelSpec) -> None:
        """See `Recorder.take`."""
        weight = _weigh(request)
        waiting = self._taken_bytes - self._done_bytes + weight
        if waiting > self._most:
            self._leave_out(answered.name)
            return
        self._taken_bytes += weight
        self._waiting.append(_Sample(request, method_name, answered, int(time.time()), weight))
        if waiting > self._most // 8:
            self._wake.set()

    def _leave_out(self, model: str) -> None:
        self._counts.add(model, _LEFT_OUT)
        now = time.monotonic()
        if now - self._said_left_out > _SAY_AGAIN_S:
            log.warning(
                "recording to %s does not keep up: requests are left out; a lower --record_rate helps", self._file.path
            )
            self._said_left_out = now

    def start(self, *, is_lenient: bool = False) -> None:
        """See `Recorder.start`."""
        try:
            self._file.check()
        except InvalidArgument as error:
            if not is_lenient:
                raise
            self._say_trouble(str(error))
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """See `Recorder.stop`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._is_stopping = True
        self._wake.set()
        thread.join(_STOP_S)
        if thread.is_alive():
            log.warning("recording to %s takes too long: the last requests are left out", self._file.path)
        else:
            self._file.close()

    def _write(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait(_FLUSH_S)
            self._wake.clear()
            is_last = self._is_stopping
            while self._waiting:
                self._write_group()

    def _write_group(self) -> None:
        """Write some of what waits, or leave all of it out; whatever comes of it, it waits no longer."""
        group: list[_Sample] = []
        try:
            records: list[Sequence[Chunk]] = []
            size = 0
            while self._waiting and len(group) < _GROUP_RECORDS and size < _GROUP_BYTES:
                group.append(self._waiting.popleft())
                records.append(self._encode(group[-1]))
                size += size_of(records[-1])
                # Requests come first: the event loop may go on here, and not once the interpreter's 5 ms are over.
                time.sleep(0)
            count, status = self._append(records)
            if count < len(records):
                # The next would fare no better.
                group += [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._count(group[:count], _WRITTEN)
            self._count(group[count:], status)
        except Exception:  # the outermost place of this thread, which has to go on
            log.exception("requests could not be recorded")
        finally:
            # Only now, since until here their arrays were in memory.
            self._done_bytes += sum(each.weight for each in group)

    def _count(self, group: list[_Sample], status: str) -> None:
        for model, number in Counter(each.answered.name for each in group).items():
            self._counts.add(model, status, amount=number)

    def _encode(self, sample: _Sample) -> list[Chunk]:
        metadata = LogMetadata(model_spec=sample.answered, sampling_rate=self._rate, timestamp_s=sample.time_s)
        return prediction_log_chunks(sample.request, sample.method_name, metadata)

    def _append(self, records: list[Sequence[Chunk]]) -> tuple[int, str]:
        """Append what can be; give how many records, and what became of the others."""
        try:
            count = self._file.append(records)
        except (OSError, BundleError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._say_trouble(f"recording to {self._file.path} failed: {reason}; it is tried again")
            return 0, _FAILED
        if count < len(records):
            self._say_trouble(
                f"recording rests: with the next request {self._file.path} would have more than the "
                f"{self._settings.max_bytes} bytes that --record_max_bytes allows; move it away and a new one is begun"
            )
        elif self._trouble:
            log.info("recording to %s goes on", self._file.path)
            self._trouble = ""
        return count, _LEFT_OUT

    def _say_trouble(self, text: str) -> None:
        """Say it when it begins, and not with every attempt."""
        if text != self._trouble:
            log.error("%s", text)
            self._trouble = text


def _weigh(request: Request) -> int:
    """Count the bytes that a request keeps in memory, roughly."""
    if isinstance(request, PredictRequest):
        return _WEIGHT_BYTES + sum(
            sum(map(len, array.ravel().tolist())) if array.dtype.kind == "O" else array.nbytes
            for array in request.inputs.values()
        )
    return _WEIGHT_BYTES + _weigh_input(request.input)


def _weigh_input(given: Input) -> int:
    return sum(map(len, given.examples)) + len(given.context or b"")

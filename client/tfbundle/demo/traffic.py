"""Steady requests over both transports while versions change, and who answered each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfbundle_client import Client
from tfbundle_serving.apis.errors import BundleError

#: Rows a request carries.
ROWS = 8
#: Seconds between two requests of one transport: steady, and leaving the processor to the training beside it.
PERIOD_S = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's outcome.

    Attributes:
        transport: "REST" or "gRPC".
        sent_s: When it was sent, on the monotonic clock.
        first_row: Which rows of the test set it carried.
        probabilities: What came back, (ROWS, 10); None where it failed.
        error: Why it failed, or "".
    """

    transport: str
    sent_s: float
    first_row: int
    probabilities: NDArray[np.float32] | None
    error: str = ""


class Traffic:
    """One thread a transport that sends until told to stop."""

    def __init__(self, urls: Mapping[str, str], model: str, images: NDArray[np.float32]) -> None:
        self._images = images
        self._model = model
        self._stop = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [
            threading.Thread(target=self._send, args=(transport, url), name=f"traffic-{transport}", daemon=True)
            for transport, url in urls.items()
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Answer]:
        """Let the requests under way finish, and give all answers."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)
        return self.answers

    def _send(self, transport: str, url: str) -> None:
        starts = range(0, len(self._images) - ROWS, ROWS)
        with Client(url) as client:
            number = 0
            while not self._stop.wait(PERIOD_S):
                first = starts[number % len(starts)]
                number += 1
                self.answers.append(self._one(client, transport, first))

    def _one(self, client: Client, transport: str, first: int) -> Answer:
        sent = time.monotonic()
        try:
            result = client.predict(self._model, self._images[first : first + ROWS])
        except BundleError as error:
            return Answer(transport, sent, first, None, str(error))
        return Answer(transport, sent, first, result["probabilities"])


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests.

    Attributes:
        answered_by: Version to number of answers that equal what that version's trained model says of the same rows.
        failed: Requests without an answer.
        unlike_any: Answers that equal no version's.
        first_error: An example of a failure, or "".
        moved_after_s: Seconds from the first request to the first answer of the newest version; None if none came.
    """

    answered_by: Mapping[int, int]
    failed: int
    unlike_any: int
    first_error: str
    moved_after_s: float | None


def tally(answers: Sequence[Answer], expected: Mapping[int, NDArray[Any]], atol: float = 1e-5) -> Tally:
    """Find out which version answered each request by what it answered.

    Args:
        answers: The requests' outcomes.
        expected: Version to the trained model's probabilities of the whole test set.
        atol: How far an answer may be from the trained model's.
    """
    counts = dict.fromkeys(sorted(expected), 0)
    newest = max(expected)
    failed = unlike = 0
    first_error = ""
    moved = None
    begin = min((answer.sent_s for answer in answers), default=0.0)
    for answer in sorted(answers, key=lambda each: each.sent_s):
        if answer.probabilities is None:
            failed += 1
            first_error = first_error or answer.error
            continue
        rows = slice(answer.first_row, answer.first_row + ROWS)
        version = next((each for each in counts if _equal(answer.probabilities, expected[each][rows], atol)), None)
        if version is None:
            unlike += 1
            continue
        counts[version] += 1
        if version == newest and moved is None:
            moved = answer.sent_s - begin
    return Tally(counts, failed, unlike, first_error, moved)


def _equal(served: NDArray[Any], trained: NDArray[Any], atol: float) -> bool:
    return bool(np.allclose(served, trained, rtol=0, atol=atol))

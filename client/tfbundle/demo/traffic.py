"""Steady requests over both transports while versions change, and who answered each."""

from __future__ import annotations

import threading
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
        first_row: Which rows of the test set it carried.
        version: The version that says it answered; None where the request failed.
        probabilities: What came back, (ROWS, 10); None where the request failed.
        error: Why it failed, or "".
    """

    transport: str
    first_row: int
    version: int | None = None
    probabilities: NDArray[np.float32] | None = None
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
        """Let the requests under way finish, and give all answers.

        Raises:
            BundleError: A request does not end.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=90)
            if thread.is_alive():
                raise BundleError(f"{thread.name}: a request does not end")
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
        try:
            result = client.predict(self._model, self._images[first : first + ROWS])
            return Answer(transport, first, result.version, result["probabilities"])
        except Exception as error:  # whatever it is, it is a request without an answer, and must be counted
            return Answer(transport, first, error=f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the requests.

    Attributes:
        answered: Transport to version to number of answers that equal what that version's trained model says of the
            same rows.
        failed: Requests without an answer.
        wrong: Answers that are not what the version that gave them should say.
        first_error: An example of a failure, or "".
    """

    answered: Mapping[str, Mapping[int, int]]
    failed: int
    wrong: int
    first_error: str

    @property
    def is_clean(self) -> bool:
        """Whether every request was answered rightly, and over each transport by each version."""
        counts = [number for versions in self.answered.values() for number in versions.values()]
        return not self.failed and not self.wrong and bool(counts) and min(counts) > 0

    def __str__(self) -> str:
        """Tell it in a line."""
        versions = sorted({version for each in self.answered.values() for version in each})
        moved = ", ".join(
            f"version {version} answered {sum(each[version] for each in self.answered.values())}"
            for version in versions
        )
        wrong = f", {self.wrong} wrong" if self.wrong else ""
        example = f" ({self.first_error})" if self.first_error else ""
        total = sum(number for each in self.answered.values() for number in each.values())
        return f"{total} requests, {moved}{wrong}, {self.failed} failed{example}"


def tally(answers: Sequence[Answer], expected: Mapping[int, NDArray[Any]], atol: float = 1e-5) -> Tally:
    """Count the answers, each held against the version that says it gave it.

    Args:
        answers: The requests' outcomes.
        expected: Version to the trained model's probabilities of the whole test set.
        atol: How far an answer may be from the trained model's.
    """
    transports = sorted({answer.transport for answer in answers})
    counts = {transport: dict.fromkeys(sorted(expected), 0) for transport in transports}
    failed = wrong = 0
    first_error = ""
    for answer in answers:
        if answer.probabilities is None or answer.version is None:
            failed += 1
            first_error = first_error or answer.error
        elif answer.version in expected and np.allclose(
            answer.probabilities, expected[answer.version][answer.first_row :][:ROWS], rtol=0, atol=atol
        ):
            counts[answer.transport][answer.version] += 1
        else:
            wrong += 1
    return Tally(counts, failed, wrong, first_error)

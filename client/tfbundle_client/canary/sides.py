"""The two versions of a canary check, asked by their numbers: predict, classify and regress give arrays by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ParityError
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD

from ..calls.inferences import Classifications
from ..client import Client, Timeout
from .requests import Arrays, Request


class Answering(Protocol):
    """What answers requests: one version at one server."""

    def answer(self, request: Request, /) -> Arrays:
        """Give the outputs by name.

        Raises:
            ApiError: It could not be answered.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSide:
    """One version of a model at one server, asked by its number.

    Attributes:
        client: Asks.
        model: Model name.
        version: The number.
        timeout: Seconds for each request.
    """

    client: Client
    model: str
    version: int
    timeout: Timeout

    def answer(self, request: Request, /) -> Arrays:
        """See `Answering`.

        Raises:
            ParityError: Another version answered.
        """
        found, version = _ASK.get(request.method_name, _ask_predict)(self, request)
        if version != self.version:
            raise ParityError(f"asked {self.model} version {self.version}, and version {version} answered")
        return found


def _ask_predict(side: VersionSide, request: Request) -> tuple[Arrays, int]:
    found = side.client.predict(
        side.model, request.inputs, version=side.version, signature=request.signature, timeout=side.timeout
    )
    return found.outputs, found.version


def _ask_classify(side: VersionSide, request: Request) -> tuple[Arrays, int]:
    examples = _examples(request)
    found = side.client.classify(
        side.model, examples, version=side.version, signature=request.signature, timeout=side.timeout
    )
    return read_classes(found), found.version


def _ask_regress(side: VersionSide, request: Request) -> tuple[Arrays, int]:
    examples = _examples(request)
    found = side.client.regress(
        side.model, examples, version=side.version, signature=request.signature, timeout=side.timeout
    )
    return {"value": found.values}, found.version


def _examples(request: Request) -> list[bytes]:
    found: list[bytes] = next(iter(request.inputs.values())).ravel().tolist()
    return found


_ASK: Mapping[str, Callable[[VersionSide, Request], tuple[Arrays, int]]] = {
    CLASSIFY_METHOD: _ask_classify,
    REGRESS_METHOD: _ask_regress,
}


def read_classes(found: Classifications) -> Arrays:
    """Give the best class of each example, and the scores in the order of their labels where all have the same."""
    scores, labels = found.scores, found.labels
    if not scores.shape[1]:
        return {}
    best = scores.argmax(axis=1)
    rows = np.arange(len(scores))
    is_named = bool((labels != "").any())
    answers: dict[str, NDArray[Any]] = {"class": labels[rows, best] if is_named else best}
    order = np.argsort(labels, axis=1, kind="stable") if is_named else np.broadcast_to(rows[:0], (0,))
    if not is_named:
        answers["scores"] = scores
    elif bool((np.take_along_axis(labels, order, axis=1) == labels[0, order[0]]).all()):
        answers["scores"] = np.take_along_axis(scores, order, axis=1)
    return answers

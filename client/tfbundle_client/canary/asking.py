"""Both versions are asked the same, and their answers become figures; memory holds one block of rows at a time.

What fails joined is asked again in parts, so that each failure has its owner.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfbundle_serving.apis.comparison import Tolerance, compare
from tfbundle_serving.apis.errors import ApiError, ConnectionFailed, ParityError, PermissionDenied, Unauthenticated
from tfbundle_serving.apis.signatures import Signature

from ..parity.accuracy import read_truth
from .accuracy import AccuracyFigures, compare_accuracy
from .blocks import halves, join, put_together
from .figures import OutputFigures, compare_answers
from .requests import Arrays, Request
from .sides import Answering
from .views import View, best_classes, choose_view

#: Rows that are asked alone and together, to see whether they stand for themselves.
_TRIED_ROWS = 4
#: Values that are off by more than this share of the largest are no rounding of the kernels.
_ROUNDING = 0.02
#: After so many failures of the canary alone it is not asked on: the verdict is clear, and each may take a timeout.
MAX_FAILURES = 50
#: Single requests that are kept for the latencies, and how much they may hold.
_SAMPLE = 200
_SAMPLE_BYTES = 64 << 20


@dataclass(slots=True)
class Asked:
    """What came of asking both.

    Attributes:
        outputs: (signature, output) to figures.
        accuracy: Where true classes are known.
        label_output: The output that they are compared with.
        requests: Requests that both answered.
        rows: Rows in them.
        canary_failures: Requests that the stable version answered and the canary did not.
        stable_failures: The other way round.
        both_failed: Requests that neither answered.
        first_failure: What the first failure of the canary alone said.
        first_refusal: What the first failure of the stable version said.
        missing: (signature, output) that the canary's answers lack.
        sample: Single requests as they were recorded, drawn from all.
        was_cut_short: The canary failed so often that the rest was not asked.
    """

    outputs: dict[tuple[str, str], OutputFigures] = field(default_factory=dict)
    accuracy: AccuracyFigures | None = None
    label_output: str = ""
    requests: int = 0
    rows: int = 0
    canary_failures: int = 0
    stable_failures: int = 0
    both_failed: int = 0
    first_failure: str = ""
    first_refusal: str = ""
    missing: set[tuple[str, str]] = field(default_factory=set)
    sample: list[Request] = field(default_factory=list)
    was_cut_short: bool = False


class Asking:
    """Asks both versions and adds up what they answer."""

    def __init__(
        self,
        stable: Answering,
        canary: Answering,
        signatures: Mapping[str, Signature],
        *,
        batchable: bool | None = None,
        truth: ArrayLike | None = None,
        truth_signature: str = "",
        label_output: str | None = None,
        seed: int = 0,
    ) -> None:
        """Set up.

        Args:
            stable: The version that is served.
            canary: The one to be judged.
            signatures: Those of the stable version.
            batchable: Whether the rows of both stand for themselves, where that was measured.
            truth: True class of each row of one signature, in the order in which they are read, (n,).
            truth_signature: That signature.
            label_output: The output that predicts them.
            seed: For the choice of requests whose latencies are measured.
        """
        self.asked = Asked()
        self._stable, self._canary, self._signatures = stable, canary, signatures
        self._truth = None if truth is None else np.asarray(truth)
        self._truth_signature, self._label_output = truth_signature, label_output
        self._views: dict[tuple[str, str], View] = {}
        self._joins: dict[str, bool | None] = {
            name: batchable if _has_rows(signature) else False for name, signature in signatures.items()
        }
        self._random = random.Random(seed)
        self._seen = self._sample_bytes = 0

    def ask_all(self, requests: Iterable[Request]) -> Asked:
        """Ask everything.

        Raises:
            ParityError: The servers cannot be asked any more, or the true classes do not fit.
        """
        for block in join(self._prepared(requests), lambda name: self._joins[name] is not False):
            self._ask_block(block)
            if self.asked.canary_failures >= MAX_FAILURES:
                self.asked.was_cut_short = True
                break
        return self.asked

    def _prepared(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Keep a sample of the requests, and cut tables into rows where they must be asked alone."""
        for request in requests:
            if request.is_table and request.rows > 1:
                singles = [request.cut(row, row + 1) for row in range(request.rows)]
                for single in singles:
                    self._keep(single)
                if self._joins[request.signature] is False:
                    yield from singles
                    continue
            else:
                self._keep(request)
            yield request

    def _keep(self, request: Request) -> None:
        """Draw requests so that each of all has the same chance (reservoir sampling)."""
        self._seen += 1
        if len(self.asked.sample) < _SAMPLE and self._sample_bytes + request.size <= _SAMPLE_BYTES:
            self.asked.sample.append(request)
            self._sample_bytes += request.size
        elif self.asked.sample and (place := self._random.randrange(self._seen)) < len(self.asked.sample):
            gone = self.asked.sample[place].size
            if self._sample_bytes - gone + request.size <= _SAMPLE_BYTES:
                self.asked.sample[place] = request
                self._sample_bytes += request.size - gone

    def _ask_block(self, block: Sequence[Request]) -> None:
        whole = block[0] if len(block) == 1 else put_together(block)
        name = whole.signature
        if self._joins[name] is None and whole.rows > 1:
            self._joins[name] = self._stand_alone(whole)
        if (len(block) > 1 or whole.is_table) and self._joins[name] is False:
            self._ask_singly(block)
            return
        (old, why_not_stable), (new, why_not_canary) = (_try(side, whole) for side in (self._stable, self._canary))
        if (why_not_stable or why_not_canary) and (len(block) > 1 or (whole.is_table and whole.rows > 1)):
            # By halves, so that one bad row among hundreds is found in a dozen requests.
            for half in halves(block):
                if self.asked.canary_failures < MAX_FAILURES:
                    self._ask_block(half)
            return
        if why_not_stable or why_not_canary:
            self._count_failure(why_not_stable, why_not_canary)
            return
        if len(block) > 1 and not all(_is_in_rows(answers, whole.rows) for answers in (old, new)):
            self._joins[name] = False
            self._ask_singly(block)
            return
        self._compare(block, whole, old, new)

    def _ask_singly(self, block: Sequence[Request]) -> None:
        for request in block:
            singles = (
                [request.cut(row, row + 1) for row in range(request.rows)]
                if request.is_table and request.rows > 1
                else [request]
            )
            for single in singles:
                if self.asked.canary_failures >= MAX_FAILURES:
                    return
                self._ask_block([single])

    def _count_failure(self, why_not_stable: str, why_not_canary: str) -> None:
        self.asked.first_refusal = self.asked.first_refusal or why_not_stable
        if why_not_stable and why_not_canary:
            self.asked.both_failed += 1
        elif why_not_stable:
            self.asked.stable_failures += 1
        else:
            self.asked.canary_failures += 1
            self.asked.first_failure = self.asked.first_failure or why_not_canary

    def _stand_alone(self, whole: Request) -> bool:
        """Try whether rows give the same answers alone and together, in both versions."""
        rows = min(whole.rows, _TRIED_ROWS)
        part = whole.cut(0, rows)
        for side in (self._stable, self._canary):
            (together, why_not), *singles = (
                _try(side, each) for each in (part, *(whole.cut(row, row + 1) for row in range(rows)))
            )
            if why_not or any(why for _, why in singles):
                return False
            alone = [answers for answers, _ in singles]
            for name, array in together.items():
                parts = [each[name] for each in alone if name in each]
                if len(parts) != rows or any(each.shape[:1] != (1,) for each in parts):
                    return False
                if any(each.shape[1:] != array.shape[1:] for each in parts) or array.shape[:1] != (rows,):
                    return False
                if not compare(array, np.concatenate(parts), _rounding_of(array)).equal:
                    return False
        return True

    def _compare(self, block: Sequence[Request], whole: Request, old: Arrays, new: Arrays) -> None:
        asked, name = self.asked, whole.signature
        asked.requests += sum(each.rows if each.is_table else 1 for each in block)
        asked.rows += whole.rows
        labelled = self._find_label_output(name, whole.rows, old)
        for output, stable in old.items():
            key = (name, output)
            canary = new.get(output)
            if canary is None:
                asked.missing.add(key)
                continue
            view = self._views.get(key)
            if view is None:
                view = self._views[key] = choose_view(stable, output, are_classes=output == labelled)
            figures = compare_answers(stable, canary, view)
            asked.outputs[key] = asked.outputs[key] + figures if key in asked.outputs else figures
            if output == labelled and figures.mismatched == 0:
                self._judge(block, stable, canary, view)

    def _find_label_output(self, signature: str, rows: int, answers: Arrays) -> str:
        """Name the output that predicts the true classes, where they are known."""
        if self._truth is None or signature != self._truth_signature:
            return ""
        if not self.asked.label_output:
            found = read_truth(np.zeros(rows, np.int64), rows, answers, self._label_output)
            self.asked.label_output = "" if found is None else found[0]
            self.asked.accuracy = AccuracyFigures()
        return self.asked.label_output

    def _judge(self, block: Sequence[Request], stable: NDArray[Any], canary: NDArray[Any], view: View) -> None:
        if self._truth is None or self.asked.accuracy is None:
            return
        places = np.concatenate([np.arange(each.first_row, each.first_row + each.rows) for each in block])
        if int(places.max(initial=-1)) >= len(self._truth):
            raise ParityError(
                f"there are {len(self._truth)} true classes, and more rows of inputs than that: "
                "one class for each row of the inputs is expected, in their order"
            )
        old, new = best_classes(stable, view), best_classes(canary, view)
        if len(old) != len(places):
            raise ParityError(f"output {self.asked.label_output} gives {len(old)} classes for {len(places)} rows")
        self.asked.accuracy += compare_accuracy(old, new, self._truth[places])


#: These say nothing of a version: nobody could have answered.
_NO_SERVER = (ConnectionFailed, Unauthenticated, PermissionDenied)


def _try(side: Answering, request: Request) -> tuple[Arrays, str]:
    """Ask; where there is no answer, say why."""
    try:
        return side.answer(request), ""
    except _NO_SERVER as error:
        raise ParityError(str(error)) from error
    except ApiError as error:
        return {}, error.message or type(error).__name__


def _has_rows(signature: Signature) -> bool:
    specs = (*signature.inputs.values(), *signature.outputs.values())
    return all(spec.shape is None or spec.shape[:1] == (None,) for spec in specs)


def _is_in_rows(answers: Arrays, rows: int) -> bool:
    return all(array.shape[:1] == (rows,) for array in answers.values())


def _rounding_of(array: NDArray[Any]) -> Tolerance:
    if array.dtype.kind in "OSUbiu" or array.size == 0:
        return Tolerance()
    sizes = np.abs(array.astype(np.complex128))
    return Tolerance(atol=_ROUNDING * float(np.max(sizes, where=np.isfinite(sizes), initial=0.0)))

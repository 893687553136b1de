"""The client's steps of classify, regress and multi_inference.

Over REST a call is pinned to the version that was looked up, as `flows` says; and REST has no MultiInference, so the
tasks are asked one by one, all of one version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from tfbundle_serving.apis import classification
from tfbundle_serving.apis.errors import DecodeError, NotFound
from tfbundle_serving.apis.input_proto import Input
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.multi_inference import InferenceResult, InferenceTask
from tfbundle_serving.apis.regression import Regressions as RegressionResult
from tfbundle_serving.apis.signatures import CLASSIFY_METHOD, REGRESS_METHOD

from ..transports.transport import ClassifyCall, MultiInferenceCall, RegressCall
from .deadline import Deadline
from .flows import VERSION_CHANGES, Flow, Result, Tries, metadata, send
from .inferences import Classifications, Regressions, as_text_and_scores
from .signature_cache import SignatureCache


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesQuestion:
    """A classify, regress or multi_inference call as the caller wrote it.

    Attributes:
        spec: Model, version or label, signature.
        input: The examples, serialized.
        deadline: By when the answer must be here.
        tries: Counts the attempts.
        started_s: When it was asked, on the clock of `time.monotonic`.
    """

    spec: ModelSpec
    input: Input
    deadline: Deadline
    tries: Tries = field(default_factory=Tries)
    started_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How versions are looked up; see `flows`.

    Attributes:
        cache: Signatures seen so far.
        names_version: Whether replies name the version that answered.
        version_ttl_s: How long a look-up holds where they do not.
    """

    cache: SignatureCache
    names_version: bool
    version_ttl_s: float


def classify(question: ExamplesQuestion, looking: Looking) -> Flow[Classifications]:
    """Ask for the classes of examples."""
    result: Classifications = yield from _on_one_version(question, looking, lambda spec: _classify(question, spec))
    return result


def regress(question: ExamplesQuestion, looking: Looking) -> Flow[Regressions]:
    """Ask for a number for each example."""
    result: Regressions = yield from _on_one_version(question, looking, lambda spec: _regress(question, spec))
    return result


def multi_inference(
    question: ExamplesQuestion, looking: Looking, tasks: Sequence[tuple[str, str]]
) -> Flow[dict[str, Classifications | Regressions]]:
    """Run several signatures on the same examples.

    Args:
        question: What is asked; its spec names no signature.
        looking: How versions are looked up.
        tasks: Method name and signature of each.
    """
    run = _all_at_once if looking.names_version else _one_by_one
    found: dict[str, Classifications | Regressions] = yield from _on_one_version(
        question, looking, lambda spec: run(question, spec, tasks)
    )
    return found


def _on_one_version(
    question: ExamplesQuestion, looking: Looking, ask: Callable[[ModelSpec], Flow[Result]]
) -> Flow[Result]:
    spec, cache = question.spec, looking.cache
    if looking.names_version or spec.version is not None:
        return (yield from ask(spec))
    for attempt in count(1):
        known = cache.get(spec, looking.version_ttl_s)
        if known is None:
            known = yield from metadata(spec, cache, question.deadline)
        try:
            return (yield from ask(replace(spec, version=known.version, label=None)))
        except NotFound:
            cache.drop(spec)
            if attempt == VERSION_CHANGES:
                raise
    raise AssertionError("count() does not end")


def _classify(question: ExamplesQuestion, spec: ModelSpec) -> Flow[Classifications]:
    reply = yield from send(ClassifyCall(spec=spec, deadline=question.deadline, input=question.input))
    return _classifications(question, reply.model_spec.version or spec.version, spec.signature_key, reply.result)


def _regress(question: ExamplesQuestion, spec: ModelSpec) -> Flow[Regressions]:
    reply = yield from send(RegressCall(spec=spec, deadline=question.deadline, input=question.input))
    return _regressions(question, reply.model_spec.version or spec.version, spec.signature_key, reply.result)


def _one_by_one(
    question: ExamplesQuestion, spec: ModelSpec, tasks: Sequence[tuple[str, str]]
) -> Flow[dict[str, Classifications | Regressions]]:
    found: dict[str, Classifications | Regressions] = {}
    for method, signature in tasks:
        run: Any = _classify if method == CLASSIFY_METHOD else _regress
        found[signature] = yield from run(question, replace(spec, signature=signature))
    return found


def _all_at_once(
    question: ExamplesQuestion, spec: ModelSpec, tasks: Sequence[tuple[str, str]]
) -> Flow[dict[str, Classifications | Regressions]]:
    results = yield from send(
        MultiInferenceCall(
            spec=spec,
            deadline=question.deadline,
            tasks=[InferenceTask(replace(spec, signature=signature), method) for method, signature in tasks],
            input=question.input,
        )
    )
    if len(results) != len(tasks):
        raise DecodeError(f"{spec}: {len(tasks)} tasks were asked for, {len(results)} results came")
    return {
        signature: _result(question, each, signature, method)
        for (method, signature), each in zip(tasks, results, strict=True)
    }


def _result(
    question: ExamplesQuestion, each: InferenceResult, signature: str, method: str
) -> Classifications | Regressions:
    version = each.model_spec.version or question.spec.version
    if method == CLASSIFY_METHOD and isinstance(each.result, classification.Classifications):
        return _classifications(question, version, signature, each.result)
    if method == REGRESS_METHOD and isinstance(each.result, RegressionResult):
        return _regressions(question, version, signature, each.result)
    raise DecodeError(f"{question.spec}: the result of signature {signature} is not what {method} gives")


def _classifications(
    question: ExamplesQuestion, version: int | None, signature: str, found: classification.Classifications
) -> Classifications:
    labels, scores = as_text_and_scores(found)
    return Classifications(
        model=question.spec.name,
        version=version or 0,
        signature=signature,
        labels=labels,
        scores=scores,
        latency_s=time.monotonic() - question.started_s,
        attempts=question.tries.count or 1,
    )


def _regressions(
    question: ExamplesQuestion, version: int | None, signature: str, found: RegressionResult
) -> Regressions:
    return Regressions(
        model=question.spec.name,
        version=version or 0,
        signature=signature,
        values=found.values,
        latency_s=time.monotonic() - question.started_s,
        attempts=question.tries.count or 1,
    )

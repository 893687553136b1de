"""What the client does, step by step, without doing it: each flow yields calls and is given their replies.

A flow knows no socket, thread or event loop, so that the blocking client and any other drive the very same steps.

Which signature holds, and when that is looked up
    The signature is fetched once for what is asked (a version, a label, the latest) and kept. gRPC replies name the
    version that answered: when it is another one than the one kept, the next call looks it up again. REST replies name
    nothing, not even a single output. So over REST the latest version or a label is looked up first, at most once in
    `version_ttl_s`, and the request then asks for exactly that version: the answer's names, dtypes and version are
    certain. A version that went away in between is looked up again and the call repeated.
    Nothing is refused, raised or decoded on the word of an old signature: it is fetched again before.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import count
from typing import Any, TypeVar

from tfbundle_serving.apis.errors import (
    ApiError,
    BundleError,
    DecodeError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    SignatureMismatch,
)
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import VersionStatus
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.signatures import INIT_OP_SIGNATURE, Signature

from ..transports.transport import Call, MetadataCall, PredictCall, Reply, StatusCall
from .deadline import Deadline
from .empty_batch import answer_empty
from .input_fitting import Casting, fit_inputs
from .prediction import Prediction
from .signature_cache import SignatureCache

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pause:
    """A step in which nothing is sent for some seconds."""

    seconds: float


@dataclass(slots=True)
class Tries:
    """How many messages of a call were sent so far, look-ups of signatures apart."""

    count: int = 0


#: Yields what to do next, is sent the reply (None for a pause) or thrown the error, and returns the result.
Flow = Generator[Call[Any] | Pause, Any, Result]

#: How often a call is tried when the version changes under it.
VERSION_CHANGES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One predict call as the caller wrote it.

    Attributes:
        spec: Model, version or label, signature.
        inputs: A mapping from input name to value, or one value.
        outputs: Names of the wanted outputs; empty means all.
        casting: Which casts of arrays are done.
        deadline: By when the answer must be here.
        tries: Counts the attempts.
    """

    spec: ModelSpec
    inputs: Any
    outputs: Sequence[str]
    casting: Casting
    deadline: Deadline
    tries: Tries = field(default_factory=Tries)


def predict(
    question: Question, cache: SignatureCache, *, names_version: bool, version_ttl_s: float
) -> Flow[Prediction]:
    """Run a signature.

    Args:
        question: What is asked.
        cache: Signatures seen so far.
        names_version: Whether replies name the version that answered.
        version_ttl_s: How long the look-up of the latest version or of a label holds where they do not.
    """
    started_s = time.monotonic()
    spec = question.spec
    is_pinned = not names_version and spec.version is None
    known = cache.get(spec, version_ttl_s if is_pinned else None)
    is_fresh = known is None
    if known is None:
        known = yield from metadata(spec, cache, question.deadline)
    for attempt in count(1):
        try:
            response = yield from _ask(question, known, names_version=names_version)
        except (InvalidArgument, FailedPrecondition, NotFound, DecodeError) as error:
            cache.drop(spec)
            was_sent = not isinstance(error, SignatureMismatch)
            went_away = isinstance(error, NotFound)
            if attempt == VERSION_CHANGES or (is_fresh and not was_sent) or (went_away and not is_pinned):
                raise
            newer = yield from metadata(spec, cache, question.deadline)
            if newer == known and not went_away:
                raise
            known, is_fresh = newer, True
            continue
        if response.model_spec.version != known.version:
            cache.drop(spec)
        break
    return _answer(question, known, response, time.monotonic() - started_s)


def _ask(question: Question, known: ModelMetadata, *, names_version: bool) -> Flow[PredictResponse]:
    spec = question.spec
    is_pinned = not names_version and spec.version is None
    signature = find_signature(known, spec.signature_key)
    try:
        _check_outputs(question.outputs, signature)
        inputs = fit_inputs(question.inputs, signature, casting=question.casting)
    except SignatureMismatch as error:
        where = f"{known.name} version {known.version}, signature {spec.signature_key}"
        raise SignatureMismatch(
            f"{where}: {error}", model=spec.name, version=spec.version or spec.label, attempts=0
        ) from None
    if is_pinned:
        spec = replace(spec, version=known.version, label=None)
    if not names_version:
        empty = answer_empty(inputs, signature, question.outputs)
        if empty is not None:
            return PredictResponse(spec, empty)
    response = yield from send(
        PredictCall(
            spec=spec, deadline=question.deadline, inputs=inputs, output_filter=question.outputs, signature=signature
        )
    )
    for name in question.outputs:
        if name not in response.outputs:
            raise DecodeError(f"{spec}: the reply has no output {name!r}")
    return response


def send(call: Call[Reply]) -> Flow[Reply]:
    """Yield one call; a step with a name only so that the reply has its type."""
    reply: Reply = yield call
    return reply


def find_signature(metadata: ModelMetadata, name: str) -> Signature:
    """Find a signature by name.

    Raises:
        SignatureMismatch: There is none of that name; the message names those that there are.
    """
    found = metadata.signatures.get(name)
    if found is None or name == INIT_OP_SIGNATURE:
        names = ", ".join(sorted(metadata.callable_signatures)) or "none"
        raise SignatureMismatch(
            f"{metadata.name} version {metadata.version} has no signature {name!r}; the signatures are {names}",
            attempts=0,
        )
    return found


def _check_outputs(wanted: Sequence[str], signature: Signature) -> None:
    for name in wanted:
        if name not in signature.outputs:
            near = get_close_matches(name, signature.outputs, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SignatureMismatch(
                f"there is no output {name!r}; the outputs are {', '.join(sorted(signature.outputs))}{hint}"
            )


def _answer(question: Question, known: ModelMetadata, response: PredictResponse, latency_s: float) -> Prediction:
    outputs = response.outputs
    if question.outputs or len(outputs) > 1:
        outputs = {name: outputs[name] for name in question.outputs or sorted(outputs)}
    for array in outputs.values():
        array.flags.writeable = False
    return Prediction(
        model=question.spec.name,
        version=response.model_spec.version or known.version,
        signature=question.spec.signature_key,
        outputs=outputs,
        latency_s=latency_s,
        attempts=question.tries.count or 1,
    )


def metadata(spec: ModelSpec, cache: SignatureCache, deadline: Deadline) -> Flow[ModelMetadata]:
    """Fetch a version's signatures, and keep them."""
    asked_at_s = time.monotonic()
    found = yield from send(MetadataCall(spec=replace(spec, signature=""), deadline=deadline))
    cache.put(spec, found, asked_at_s)
    return found


def status(spec: ModelSpec, cache: SignatureCache, deadline: Deadline) -> Flow[list[VersionStatus]]:
    """Ask for the states of a model's versions, the highest first; or for that of the version asked for.

    A status request with a label is answered as one without, so the label's version is looked up before.
    """
    if spec.label is not None:
        labelled = yield from metadata(spec, cache, deadline)
        spec = ModelSpec(spec.name, labelled.version)
    found = yield from send(StatusCall(spec=spec, deadline=deadline))
    statuses = sorted(found, key=lambda each: -each.version)
    latest = next((each.version for each in statuses if each.is_available), None)
    known = cache.get(ModelSpec(spec.name))
    if known is not None and spec.version is None and known.version != latest:
        # The caller has now seen another version: what he asks next must not go to an older one.
        cache.drop_model(spec.name)
    return statuses


def name_the_model(error: BundleError, spec: ModelSpec) -> None:
    """Write onto an error what was asked for, where it does not say so yet."""
    if isinstance(error, ApiError) and error.model is None and spec.name:
        error.model = spec.name
        error.version = spec.version if spec.version is not None else spec.label

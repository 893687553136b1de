"""What each signature is asked: the example inputs, what is made from them, or rows drawn from its own specs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfbundle_serving.apis.errors import ExportError

from ..models.source_model import SourceModel
from ..models.structure import arrange_examples
from ..settings import Examples
from ..signatures.endpoint import Endpoint
from .example_inputs import MIN_ROWS, Arrays, draw_examples, fit_examples, has_free_sizes, is_batched
from .reference import Reference, ask

logger = logging.getLogger(__name__)

#: Stands between a signature and its input in the names of example inputs: "serving_default/image".
_SEPARATOR = "/"
#: Sizes of dimensions of any size, for models that fail on short ones.
_LONGER = (128, 2048, 16384)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a source answered.

    Attributes:
        references: Signature to reference inputs and answers.
        unproven: Signatures that no inputs were found for.
    """

    references: Mapping[str, Reference]
    unproven: tuple[str, ...] = ()


def ask_all(model: SourceModel, endpoints: Sequence[Endpoint], examples: Examples, *, allow_unproven: bool) -> Answers:
    """Ask a source for its answers, signature by signature.

    Args:
        model: The source.
        endpoints: Its signatures, the main one first.
        examples: Inputs of the main signature, or of several under "signature/input".
        allow_unproven: Whether a further signature may be left out that fails on all rows drawn for it.

    Raises:
        ExportError: The example inputs fit no signature, or the model fails on them.
    """
    main = endpoints[0]
    given, given_apart = _split(examples.given, endpoints)
    references: dict[str, Reference] = {}
    unproven: list[str] = []
    for endpoint in endpoints:
        candidates = _candidates(endpoint, main, given, given_apart, references, examples.seed, model)
        try:
            references[endpoint.signature] = _ask(model, endpoint, candidates)
        except _NothingFitsError as error:
            if endpoint is main or not allow_unproven:
                # Only a further signature can go without: a version that proves nothing is none.
                unlocks = (
                    ""
                    if endpoint is main
                    else f", as members {endpoint.signature}/NAME; or --allow unproven (allow=['unproven']) "
                    "publishes it as it is"
                )
                raise ExportError(f"{error}{unlocks}") from error.__cause__
            logger.warning("signature %s is not proven: %s", endpoint.signature, error.__cause__)
            unproven.append(endpoint.signature)
    return Answers(references, tuple(unproven))


class _NothingFitsError(Exception):
    """A signature fails on all rows that were drawn for it."""


def _split(given: Any, endpoints: Sequence[Endpoint]) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Take example inputs apart that name their signature."""
    if not isinstance(given, Mapping) or not any(_SEPARATOR in str(name) for name in given):
        return given, {}
    apart: dict[str, dict[str, Any]] = {}
    known = [endpoint.signature for endpoint in endpoints]
    for name, array in given.items():
        signature, _, alias = str(name).partition(_SEPARATOR)
        if signature not in known or not alias:
            raise ExportError(
                f"example inputs name {name!r}; expected SIGNATURE/INPUT, the signatures being {', '.join(known)}"
            )
        apart.setdefault(signature, {})[alias] = array
    return apart.pop(known[0], None), apart


def _candidates(
    endpoint: Endpoint,
    main: Endpoint,
    given: Any,
    given_apart: Mapping[str, Any],
    references: Mapping[str, Reference],
    seed: int,
    model: SourceModel,
) -> Iterator[tuple[Arrays, bool]]:
    """Give the inputs to try, best first, and whether they were drawn."""
    if endpoint.signature in given_apart:
        yield fit_examples(given_apart[endpoint.signature], endpoint.inputs, tuple(endpoint.inputs)), False
        return
    if endpoint is main and given is not None:
        flat = arrange_examples(model.main.arguments, given)
        yield fit_examples(flat, main.inputs, tuple(model.main.inputs)), False
        return
    if endpoint.examples is not None and endpoint.around in references:
        yield endpoint.examples(references[endpoint.around].inputs), False
        return
    if endpoint is not main and all(main.inputs.get(name) == spec for name, spec in endpoint.inputs.items()):
        reference = references[main.signature]
        yield {name: reference.inputs[name] for name in endpoint.inputs}, given is None
    if endpoint is main:
        logger.info("no example inputs were given: drawing some from the signature (seed %d)", seed)
    for drawn in _draws(endpoint, seed):
        yield _rows_that_stand_alone(endpoint, drawn), True


def _draws(endpoint: Endpoint, seed: int) -> Iterator[Arrays]:
    """Draw rows, the most telling first: each next kind is for models that the ones before do not suit."""
    specs = endpoint.inputs
    drawn = draw_examples(specs, seed=seed)
    yield drawn
    if any(array.dtype == object for array in drawn.values()):
        yield {name: _blank(array) for name, array in drawn.items()}
    if any(array.dtype.kind in "fV" for array in drawn.values()):
        yield draw_examples(specs, seed=seed, as_indices=True)
    if has_free_sizes(specs):
        for size in _LONGER:
            yield draw_examples(specs, seed=seed, free_size=size)


def _blank(array: Any) -> Any:
    """Empty all texts: no bytes are a serialized tf.Example without features, and words are none."""
    if array.dtype != object:
        return array
    blank = np.empty(array.shape, object)
    blank[...] = b""
    return blank


def _rows_that_stand_alone(endpoint: Endpoint, drawn: Arrays) -> Arrays:
    """Leave out drawn texts that the source cannot answer alone: sent one by one, they would get an error."""
    if not is_batched(endpoint.inputs) or not any(array.dtype == object for array in drawn.values()):
        return drawn
    rows = range(next(iter(drawn.values())).shape[0])
    good = [row for row in rows if _answers(endpoint, {name: array[[row]] for name, array in drawn.items()})]
    return {name: array[good] for name, array in drawn.items()} if len(good) >= MIN_ROWS else drawn


def _answers(endpoint: Endpoint, inputs: Arrays) -> bool:
    try:
        endpoint.predict(inputs)
    except ExportError:
        return False
    return True


def _ask(model: SourceModel, endpoint: Endpoint, candidates: Iterator[tuple[Arrays, bool]]) -> Reference:
    failures: list[ExportError] = []
    for inputs, drawn in candidates:
        answer = _try(model, endpoint, inputs)
        if isinstance(answer, Reference):
            return answer
        if not drawn:
            raise answer
        failures.append(answer)
    raise _NothingFitsError(str(failures[0])) from failures[0]


def _try(model: SourceModel, endpoint: Endpoint, inputs: Arrays) -> Reference | ExportError:
    try:
        return ask(
            endpoint.predict,
            inputs,
            # What takes nothing has no rows, either.
            batched=bool(endpoint.inputs) and is_batched(endpoint.inputs),
            stateful=model.stateful,
            reset=model.reset,
        )
    except ExportError as error:
        return error

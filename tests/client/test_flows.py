"""The client's steps when the server changes under it; replies are handed to the flows as a transport would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tfbundle_client.calls.deadline import Deadline
from tfbundle_client.calls.flows import Flow, Question, metadata, predict, status
from tfbundle_client.calls.signature_cache import SignatureCache
from tfbundle_client.transports.transport import Call, MetadataCall, PredictCall, StatusCall
from tfbundle_serving.apis import dtypes
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument, NotFound, SignatureMismatch
from tfbundle_serving.apis.model_metadata import ModelMetadata
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.model_status import State, VersionStatus
from tfbundle_serving.apis.predict import PredictResponse
from tfbundle_serving.apis.signatures import Signature, TensorSpec

SPEC = ModelSpec("m")


def _version(number: int, *, name: str = "x", dtype: dtypes.DType = dtypes.FLOAT) -> ModelMetadata:
    spec = TensorSpec(dtype, (None,))
    return ModelMetadata("m", number, {"serving_default": Signature({name: spec}, {"y": spec})})


def _reply(number: int) -> PredictResponse:
    return PredictResponse(ModelSpec("m", number), {"y": np.array([1], np.float32)})


def _question(spec: ModelSpec = SPEC, inputs: Any = None) -> Question:
    return Question(
        spec=spec,
        inputs=[1.0] if inputs is None else inputs,
        outputs=(),
        casting="safe",
        deadline=Deadline.after(None),
    )


def _ask(
    cache: SignatureCache, *, rest: bool = False, question: Question | None = None, ttl_s: float = 60.0
) -> Flow[Any]:
    return predict(question or _question(), cache, names_version=not rest, version_ttl_s=ttl_s)


def _run(flow: Flow[Any], replies: list[Any]) -> tuple[Any, list[Call[Any]]]:
    """Hand a flow its replies, errors thrown, and give its result and the calls that it made."""
    calls: list[Any] = []
    waiting: Iterator[Any] = iter(replies)
    try:
        calls.append(next(flow))
        while True:
            reply = next(waiting)
            calls.append(flow.throw(reply) if isinstance(reply, Exception) else flow.send(reply))
    except StopIteration as end:
        assert next(waiting, None) is None, "the flow ended with replies left over"
        return end.value, calls


def _kinds(calls: list[Call[Any]]) -> list[type]:
    return [type(call) for call in calls]


def _seen(number: int, *, name: str = "x") -> SignatureCache:
    cache = SignatureCache()
    _run(metadata(SPEC, cache, Deadline.after(None)), [_version(number, name=name)])
    return cache


def test_the_signature_is_fetched_once() -> None:
    """The first call asks for the signature, the second does not."""
    cache = SignatureCache()
    answer, calls = _run(_ask(cache), [_version(1), _reply(1)])
    assert (answer.version, _kinds(calls)) == (1, [MetadataCall, PredictCall])
    _, calls = _run(_ask(cache), [_reply(1)])
    assert _kinds(calls) == [PredictCall]


def test_a_reply_of_another_version_makes_the_next_call_look_again() -> None:
    """gRPC: an answer of version 2 where version 1 was kept is right as it is; the next call fetches the signature."""
    cache = _seen(1)
    answer, _ = _run(_ask(cache), [_reply(2)])
    assert answer.version == 2
    _, calls = _run(_ask(cache), [_version(2), _reply(2)])
    assert _kinds(calls) == [MetadataCall, PredictCall]


def test_an_old_signature_never_refuses() -> None:
    """Inputs that do not fit what was kept are checked against a fresh signature before."""
    cache = _seen(1, name="old")
    answer, calls = _run(_ask(cache, question=_question(inputs={"x": [1.0]})), [_version(2), _reply(2)])
    assert (answer.version, _kinds(calls)) == (2, [MetadataCall, PredictCall])


def test_a_fresh_signature_refuses_at_once() -> None:
    """A mismatch with a signature that was just fetched needs no second look, and nothing is sent."""
    flow = _ask(SignatureCache(), question=_question(inputs={"nope": [1.0]}))
    with pytest.raises(
        SignatureMismatch, match="m version 3, signature serving_default: there is no input 'nope'"
    ) as caught:
        _run(flow, [_version(3)])
    assert caught.value.attempts == 0


def test_a_refusal_by_the_server_is_checked_against_a_fresh_signature() -> None:
    """What was cast for version 1 and refused by version 2 is cast anew and sent again."""
    cache = _seen(1)
    refused = InvalidArgument("Expects arg[0] to be double but float is provided")
    answer, calls = _run(_ask(cache), [refused, _version(2, dtype=dtypes.DOUBLE), _reply(2)])
    assert answer.version == 2
    assert isinstance(calls[-1], PredictCall)
    assert calls[-1].inputs["x"].dtype == np.float64


def test_a_refusal_under_an_unchanged_signature_stands() -> None:
    """The server's own error is raised when the signature turns out to be the one that was used."""
    refused = InvalidArgument("no")
    with pytest.raises(InvalidArgument) as caught:
        _run(_ask(_seen(1)), [refused, _version(1)])
    assert caught.value is refused


def test_rest_asks_for_the_version_that_was_looked_up() -> None:
    """Over REST the request names the version whose signature decodes the reply, and that version is reported."""
    answer, calls = _run(_ask(SignatureCache(), rest=True), [_version(4), _reply(4)])
    assert calls[-1].spec.version == 4
    assert answer.version == 4


def test_rest_looks_up_the_version_behind_a_label() -> None:
    """A label becomes the version that it points at; a version and a label cannot travel together."""
    question = _question(ModelSpec("m", label="canary"))
    answer, calls = _run(_ask(SignatureCache(), rest=True, question=question), [_version(4), _reply(4)])
    assert (calls[0].spec.label, calls[-1].spec.label, calls[-1].spec.version) == ("canary", None, 4)
    assert answer.version == 4


def test_rest_looks_again_when_the_time_of_the_look_up_is_over() -> None:
    """The latest version is looked up again after `version_ttl_s`, a version given by number never."""
    cache = _seen(1)
    answer, calls = _run(_ask(cache, rest=True, ttl_s=0.0), [_version(2), _reply(2)])
    assert (answer.version, calls[-1].spec.version) == (2, 2)
    exact = _question(ModelSpec("m", 2))
    _run(_ask(cache, rest=True, ttl_s=0.0, question=exact), [_version(2), _reply(2)])
    _, calls = _run(_ask(cache, rest=True, ttl_s=0.0, question=exact), [_reply(2)])
    assert _kinds(calls) == [PredictCall]


def test_rest_follows_a_version_that_went_away() -> None:
    """A version that is gone by the time of the request is looked up again, and the call goes to its successor."""
    gone = NotFound("Servable not found for request: Specific(m, 1)")
    answer, calls = _run(_ask(_seen(1), rest=True), [gone, _version(2), _reply(2)])
    assert (answer.version, _kinds(calls)) == (2, [PredictCall, MetadataCall, PredictCall])


def test_a_version_asked_for_by_number_is_not_replaced() -> None:
    """NotFound for a version that the caller named is the caller's to see, over either transport."""
    for rest in (False, True):
        flow = _ask(SignatureCache(), rest=rest, question=_question(ModelSpec("m", 1)))
        with pytest.raises(NotFound):
            _run(flow, [_version(1), NotFound("gone")])


def test_a_version_that_keeps_going_away_is_given_up() -> None:
    """The call is not repeated without end."""
    replies: list[Any] = [NotFound("gone") if place % 2 == 0 else _version(place) for place in range(20)]
    with pytest.raises(NotFound):
        _run(_ask(_seen(1), rest=True), replies)


def test_a_reply_that_does_not_fit_is_asked_for_again() -> None:
    """A reply that the kept signature cannot read is asked for anew under a fresh one, if that is another."""
    answer, calls = _run(_ask(_seen(1), question=_question(inputs=[1.0])), [DecodeError("no"), _version(2), _reply(2)])
    assert (answer.version, _kinds(calls)) == (2, [PredictCall, MetadataCall, PredictCall])
    with pytest.raises(DecodeError):
        _run(_ask(_seen(1)), [DecodeError("no"), _version(1)])


def test_a_status_that_shows_a_new_version_ends_the_old_look_up() -> None:
    """Who has seen version 2 AVAILABLE is answered by version 2 from then on, however young the look-up."""
    cache = _seen(1)
    statuses = [VersionStatus(1, State.AVAILABLE), VersionStatus(2, State.AVAILABLE)]
    found, calls = _run(status(SPEC, cache, Deadline.after(None)), [statuses])
    assert ([each.version for each in found], _kinds(calls)) == ([2, 1], [StatusCall])
    _, calls = _run(_ask(cache, rest=True), [_version(2), _reply(2)])
    assert _kinds(calls) == [MetadataCall, PredictCall]

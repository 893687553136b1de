"""Messages of Classify, Regress and MultiInference against the official classes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from tfbundle_serving.apis.classification import (
    ClassificationResponse,
    Classifications,
    decode_classification_response,
    encode_classification_response,
)
from tfbundle_serving.apis.errors import DecodeError, InvalidArgument
from tfbundle_serving.apis.example_proto import Feature, Kind, decode_example, encode_example
from tfbundle_serving.apis.input_proto import (
    ExamplesRequest,
    Input,
    decode_examples_request,
    decode_input,
    encode_examples_request,
    encode_input,
)
from tfbundle_serving.apis.model_spec import ModelSpec
from tfbundle_serving.apis.multi_inference import (
    InferenceResult,
    InferenceTask,
    MultiInferenceRequest,
    decode_multi_inference_request,
    decode_multi_inference_response,
    encode_multi_inference_request,
    encode_multi_inference_response,
)
from tfbundle_serving.apis.regression import (
    RegressionResponse,
    Regressions,
    decode_regression_response,
    encode_regression_response,
)

SPEC = ModelSpec("digits", version=3, signature="classify")
FEATURES = {
    "words": Feature(Kind.BYTES, [b"a", b"", b"\xff"]),
    "sizes": Feature(Kind.FLOAT, [0.5, -0.0, 1e300]),
    "ids": Feature(Kind.INT64, [0, 5, -1, 2**63 - 1, -(2**63)]),
    "many": Feature(Kind.INT64, list(range(-40, 400, 7))),
    "none": Feature(Kind.INT64, []),
    "unsaid": Feature(None),
}
LABELS = np.array([[b"cat", b""], [b"dog", b"gr\xc3\xbcn"]], object)
SCORES = np.array([[0.25, 0.0], [-0.0, np.inf]], np.float32)


def examples(*ages: int) -> list[bytes]:
    """Make serialized examples with one feature."""
    return [encode_example({"age": Feature(Kind.INT64, [age])}) for age in ages]


def test_an_example_goes_both_ways() -> None:
    """Every kind of feature is read by the official class, and what it writes by us."""
    official = tf.train.Example.FromString(encode_example(FEATURES))
    feature = official.features.feature
    assert list(feature["words"].bytes_list.value) == [b"a", b"", b"\xff"]
    assert list(feature["sizes"].float_list.value) == [0.5, -0.0, float("inf")]
    assert list(feature["ids"].int64_list.value) == [0, 5, -1, 2**63 - 1, -(2**63)]
    assert feature["none"].WhichOneof("kind") == "int64_list"
    assert feature["unsaid"].WhichOneof("kind") is None
    again = decode_example(official.SerializeToString())
    assert again["sizes"].values == [0.5, -0.0, float("inf")]
    assert {name: (each.kind, list(each.values)) for name, each in again.items() if name != "sizes"} == {
        name: (each.kind, list(each.values)) for name, each in FEATURES.items() if name != "sizes"
    }


def test_unpacked_numbers_are_read() -> None:
    """Old writers give each number a field of its own, and may write a list in two parts."""
    integers = b"\x08\x05\x08\x07"
    floats = b"\x0d\x00\x00\x80\x3f"
    feature = b"\x1a" + bytes((len(integers),)) + integers
    entries = b"".join(
        b"\x0a" + bytes((len(entry),)) + entry
        for entry in (
            b"\x0a\x01i\x12" + bytes((2 * len(feature),)) + 2 * feature,
            b"\x0a\x01f\x12" + bytes((len(floats) + 2, 0x12, len(floats))) + floats,
        )
    )
    message = b"\x0a" + bytes((len(entries),)) + entries
    official = tf.train.Example.FromString(message).features.feature
    assert list(official["i"].int64_list.value) == [5, 7, 5, 7]
    read = decode_example(message)
    assert read == {"i": Feature(Kind.INT64, [5, 7, 5, 7]), "f": Feature(Kind.FLOAT, [1.0])}


def test_an_input_goes_both_ways() -> None:
    """Examples stay as they are; the last kind of the oneof counts, and what comes twice is joined."""
    for value in (Input(examples(1, 2)), Input(examples(3), b""), Input(examples(4), examples(9)[0])):
        official = input_pb2.Input.FromString(encode_input(value))
        assert decode_input(official.SerializeToString()) == value
    first, second = encode_input(Input(examples(1))), encode_input(Input(examples(2), examples(9)[0]))
    for parts in (first + second, second + first, second + second, first + first):
        ours, official = decode_input(parts), input_pb2.Input.FromString(parts)
        theirs = decode_input(official.SerializeToString())
        assert ours.examples == theirs.examples
        assert (ours.context is None) == (theirs.context is None)
        assert decode_example(ours.context or b"") == decode_example(theirs.context or b"")


def test_the_context_is_shared_and_gives_way() -> None:
    """Each example that the graph gets has the context's features, but its own where both have one."""
    context = encode_example({"age": Feature(Kind.INT64, [1]), "city": Feature(Kind.BYTES, [b"Oslo"])})
    first, second = Input([*examples(7), b""], context).to_array()
    assert tf.train.Example.FromString(first).features.feature["age"].int64_list.value == [7]
    assert tf.train.Example.FromString(first).features.feature["city"].bytes_list.value == [b"Oslo"]
    assert decode_example(second)["age"].values == [1]
    with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
        Input([], context).to_array()


@pytest.mark.parametrize("official", [classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest])
def test_requests_go_both_ways(official: Any) -> None:
    """One form serves Classify and Regress."""
    request = ExamplesRequest(SPEC, Input(examples(1, 2)))
    message = official.FromString(encode_examples_request(request))
    assert message.model_spec.signature_name == "classify"
    assert message.input.example_list.examples[1].features.feature["age"].int64_list.value == [2]
    assert decode_examples_request(message.SerializeToString()) == request
    assert decode_examples_request(b"") == ExamplesRequest(None, Input([]))


@pytest.mark.parametrize(
    ("labels", "scores"), [(LABELS, SCORES), (LABELS, None), (None, SCORES)], ids=["both", "labels", "scores"]
)
def test_classifications_go_both_ways(labels: Any, scores: Any) -> None:
    """What the model does not give is empty or 0."""
    response = ClassificationResponse(SPEC, Classifications(labels, scores))
    official = classification_pb2.ClassificationResponse.FromString(encode_classification_response(response))
    assert official.model_spec.version.value == 3
    expected_labels = [["", ""], ["", ""]] if labels is None else [["cat", ""], ["dog", "grün"]]
    expected_scores = np.zeros((2, 2)) if scores is None else scores
    found = [[(each.label, each.score) for each in row.classes] for row in official.result.classifications]
    assert [[label for label, _ in row] for row in found] == expected_labels
    assert [[score for _, score in row] for row in found] == expected_scores.tolist()
    # The official class writes exactly these bytes, but for the order of fields that it does not promise.
    again = decode_classification_response(official.SerializeToString())
    assert again.model_spec == SPEC
    assert again.result.scores is not None
    assert again.result.scores.tobytes() == np.asarray(expected_scores, np.float32).tobytes()
    assert again.result.labels is not None
    assert [[label.decode() for label in row] for row in again.result.labels.tolist()] == expected_labels


def test_ragged_classifications_are_refused() -> None:
    """No model of TensorFlow's can answer so."""
    official = classification_pb2.ClassificationResponse()
    official.result.classifications.add().classes.add(label="a")
    official.result.classifications.add()
    with pytest.raises(DecodeError, match="differ in their number"):
        decode_classification_response(official.SerializeToString())


def test_regressions_go_both_ways() -> None:
    """Zero is left out on the wire, and negative zero is not."""
    values = np.array([1.5, 0.0, -0.0, np.nan], np.float32)
    message = encode_regression_response(RegressionResponse(SPEC, Regressions(values)))
    official = regression_pb2.RegressionResponse.FromString(message)
    assert np.array([each.value for each in official.result.regressions], np.float32).tobytes() == values.tobytes()
    assert official.SerializeToString() == message
    again = decode_regression_response(message)
    assert again.model_spec == SPEC
    assert again.result.values.tobytes() == values.tobytes()


def test_multi_inference_goes_both_ways() -> None:
    """Tasks and results of both kinds."""
    request = MultiInferenceRequest(
        [InferenceTask(SPEC, "tensorflow/serving/classify"), InferenceTask(None, "")], Input(examples(1))
    )
    official = inference_pb2.MultiInferenceRequest.FromString(encode_multi_inference_request(request))
    assert official.tasks[0].method_name == "tensorflow/serving/classify"
    assert decode_multi_inference_request(official.SerializeToString()) == request
    results = [
        InferenceResult(SPEC, Classifications(LABELS, SCORES)),
        InferenceResult(SPEC, Regressions(np.array([2.0], np.float32))),
    ]
    answer = inference_pb2.MultiInferenceResponse.FromString(encode_multi_inference_response(results))
    assert answer.results[0].classification_result.classifications[1].classes[0].label == "dog"
    assert answer.results[1].regression_result.regressions[0].value == 2.0
    first, second = decode_multi_inference_response(answer.SerializeToString())
    assert (first.model_spec, second.model_spec) == (SPEC, SPEC)
    assert isinstance(first.result, Classifications)
    assert isinstance(second.result, Regressions)
    with pytest.raises(DecodeError, match="neither"):
        decode_multi_inference_response(b"\x0a\x00")


DECODERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "example": (decode_example, encode_example(FEATURES)),
    "request": (decode_examples_request, encode_examples_request(ExamplesRequest(SPEC, Input(examples(1), b"")))),
    "classification": (
        decode_classification_response,
        encode_classification_response(ClassificationResponse(SPEC, Classifications(LABELS, SCORES))),
    ),
    "regression": (
        decode_regression_response,
        encode_regression_response(RegressionResponse(SPEC, Regressions(SCORES[0]))),
    ),
    "tasks": (
        decode_multi_inference_request,
        encode_multi_inference_request(MultiInferenceRequest([InferenceTask(SPEC, "m")], Input(examples(1)))),
    ),
    "results": (
        decode_multi_inference_response,
        encode_multi_inference_response([InferenceResult(SPEC, Classifications(LABELS, SCORES))]),
    ),
}


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    """A message with bytes changed, cut off or made up is read or is a DecodeError, nothing else."""
    decode, whole = DECODERS[name]
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] + data.draw(st.binary(max_size=8)))
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=3)):
        damaged[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    with contextlib.suppress(DecodeError, InvalidArgument):
        decode(bytes(damaged))

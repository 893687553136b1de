"""Classify, regress and multi_inference: one suite over both clients and both transports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.client.faces import opened
from tests.servers import RunningServer, running_server
from tests.serving.server.test_examples_api import save_even_odd
from tfbundle_client import Classifications, Client, InvalidArgument, NotFound
from tfbundle_client.calls.example_inputs import as_input

X = [{"x": 0.5}, {"x": [2.0]}]


@pytest.fixture(scope="module")
def examples_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose version 7 of `m` has signatures on examples."""
    base = tmp_path_factory.mktemp("examples") / "m"
    save_even_odd(base / "7")
    with running_server(f"--model_base_path={base}", "--model_name=m") as server:
        yield server


@pytest.fixture(params=["grpc", "rest"])
def client(request: pytest.FixtureRequest, face: str, examples_server: RunningServer) -> Iterator[Client]:
    """A client of that server: blocking and asynchronous, over each transport."""
    url = examples_server.grpc_url if request.param == "grpc" else examples_server.rest_url
    with opened(face, url, timeout=30) as client:
        yield client


def test_classify(client: Client) -> None:
    """Each example has its labels and scores; the version that answered is named over either transport."""
    answer = client.classify("m", X)
    assert list(answer) == [[("even", 0.5), ("odd", -0.5)], [("even", 2.0), ("odd", -2.0)]]
    assert answer[-1] == answer[0:2][1]
    assert (answer.model, answer.version, answer.signature, answer.attempts) == ("m", 7, "serving_default", 1)
    assert answer.scores.dtype == np.float32
    assert (answer.scores.shape, answer.latency_s > 0) == ((2, 2), True)
    only_scores = client.classify("m", X, signature="scores", version=7)
    assert only_scores[1] == [("", 2.0), ("", -2.0)]


def test_regress(client: Client) -> None:
    """Each example has its number, exactly."""
    values = [0.1, -3.0, 1e-30, float("nan"), float("inf")]
    answer = client.regress("m", [{"x": value} for value in values], signature="regress")
    np.testing.assert_array_equal(answer.values, 2 * np.array(values, np.float32))
    assert (answer.version, answer.signature, len(answer), answer[1]) == (7, "regress", 5, -6.0)


def test_context_and_serialized_examples(client: Client) -> None:
    """A context stands for all examples, an example's own feature counts more; bytes are taken as they are."""
    tf: Any = pytest.importorskip("tensorflow")
    features = {"x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.0]))}
    message = tf.train.Example(features=tf.train.Features(feature=features))
    examples = [message.SerializeToString(), message, {"x": 2.0, "city": "Oslo"}]
    answer = client.classify("m", examples, context={"city": b"Br\xc3\xbcgge"}, signature="cities")
    assert [row[0][0] for row in answer] == ["Brügge", "Brügge", "Oslo"]


def test_multi_inference(client: Client) -> None:
    """Several signatures answer for the same examples; over REST they are asked one by one, of one version."""
    answer = client.multi_inference("m", X, classify=["classify"], regress=["regress"])
    assert list(answer) == ["classify", "regress"]
    assert isinstance(answer["classify"], Classifications)
    assert answer["classify"][0] == [("even", 0.5), ("odd", -0.5)]
    assert list(answer["regress"]) == [1.0, 4.0]
    assert {each.version for each in answer.values()} == {7}


def test_refusals(client: Client) -> None:
    """What cannot be examples is refused before sending; what the server refuses keeps its class."""
    wrong: list[Any] = [[], {"x": 1.0}, [3], [{"x": [[1.0]]}], [{"x": 2**63}]]
    for examples in wrong:
        with pytest.raises(InvalidArgument) as caught:
            client.classify("m", examples)
        assert caught.value.attempts == 0
    with pytest.raises(InvalidArgument) as caught:
        client.regress("m", X, signature="classify")
    assert (caught.value.model, caught.value.attempts) == ("m", 1)
    with pytest.raises(NotFound):
        client.classify("m", X, version=8)


@pytest.mark.parametrize("value", [np.zeros((8, 8, 1)), np.zeros((8, 8, 1)).tolist()])
def test_a_feature_has_no_shape(value: Any) -> None:
    """An array with dimensions is told by its shape, and how to send it."""
    with pytest.raises(InvalidArgument, match=r"example 0, 'x' wants .* got shape \(8, 8, 1\); .* flatten it"):
        as_input([{"x": value}])
    with pytest.raises(InvalidArgument, match="got a list of lists; "):
        as_input([{"x": [[1], [1, 2]]}])


def test_features_become_the_kinds_that_python_means() -> None:
    """Strings, numbers and whole numbers are told apart; numpy values are like Python's, a mixed list has floats."""
    tf: Any = pytest.importorskip("tensorflow")
    example = {"a": "ö", "b": [b"\0", "x"], "c": 3, "d": np.arange(40), "e": [1, 2.5], "f": np.float32(0.5), "g": True}
    found = as_input([{**example, "h": []}]).examples[0]
    features = tf.train.Example.FromString(found).features.feature
    assert list(features["a"].bytes_list.value) == ["ö".encode()]
    assert list(features["b"].bytes_list.value) == [b"\0", b"x"]
    assert list(features["c"].int64_list.value) == [3]
    assert list(features["d"].int64_list.value) == list(range(40))
    assert list(features["e"].float_list.value) == [1.0, 2.5]
    assert list(features["f"].float_list.value) == [0.5]
    assert list(features["g"].int64_list.value) == [1]
    assert features["h"].WhichOneof("kind") is None


def test_a_data_frame_is_an_example_a_row() -> None:
    """A pandas DataFrame's columns are features."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [0.5, 1.5], "city": ["a", "b"]})
    assert as_input(frame) == as_input([{"x": 0.5, "city": "a"}, {"x": 1.5, "city": "b"}])

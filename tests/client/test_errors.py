"""Bad input: the same class and a line that helps, over REST and gRPC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tfbundle_client import ApiError, Client, DeadlineExceeded, InvalidArgument, NotFound, SignatureMismatch


def _refused(kind: type[ApiError], client: Client, model: str, inputs: Any, **options: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client.predict(model, inputs, **options)
    assert type(caught.value) is kind
    # What TensorFlow says of a graph has a second line that names the node.
    assert caught.value.attempts or "\n" not in str(caught.value)
    assert caught.value.model == model
    return caught.value


def test_unknown_model(client: Client) -> None:
    """An unknown model is NotFound, in TensorFlow Serving's words."""
    error = _refused(NotFound, client, "nope", [1.0])
    assert str(error) == "Servable not found for request: Latest(nope)"
    assert (error.code, error.http_status) == (5, 404)


def test_unknown_version(client: Client) -> None:
    """An unknown version is NotFound and carries the version."""
    error = _refused(NotFound, client, "half_plus_two", [1.0], version=9)
    assert str(error) == "Servable not found for request: Specific(half_plus_two, 9)"
    assert error.version == 9


def test_unknown_label(client: Client) -> None:
    """An unknown label is InvalidArgument and carries the label."""
    error = _refused(InvalidArgument, client, "half_plus_two", [1.0], label="canary")
    assert "canary" in str(error)
    assert error.version == "canary"


def test_version_and_label_together(client: Client) -> None:
    """A version and a label exclude each other."""
    with pytest.raises(InvalidArgument, match="ask for a version or for a label, not both"):
        client.predict("half_plus_two", [1.0], version=1, label="stable")


def test_unknown_model_and_version_of_other_calls(client: Client) -> None:
    """Status and metadata of what is not there are NotFound, too."""
    for ask in (client.status, client.metadata):
        with pytest.raises(NotFound, match="nope"):
            ask("nope")
        with pytest.raises(NotFound, match="9"):
            ask("half_plus_two", version=9)


@pytest.mark.parametrize(
    ("model", "inputs", "options", "message"),
    [
        (
            "two_inputs",
            {"a": [[1, 2, 3]]},
            {"signature": "nope"},
            "has no signature 'nope'; the signatures are only_sum, serving_default",
        ),
        ("two_inputs", {"a": [[1, 2, 3]], "c": [[1, 2, 3]]}, {}, "there is no input 'c': the inputs are a: float32"),
        ("two_inputs", {"a": [[1, 2, 3]]}, {}, "input 'b' is missing"),
        ("two_inputs", [[1, 2, 3]], {}, "got one array without a name"),
        ("half_plus_two", [1.0], {"outputs": ["z"]}, "there is no output 'z'; the outputs are y"),
        ("half_plus_two", np.array([1.0]), {}, r"input 'x' wants float32 (?,), got float64 (1,)"),
        ("half_plus_two", ["a"], {}, "input 'x' wants float32 (?,), got string (1,)"),
        ("half_plus_two", [[1.0]], {}, "input 'x' wants float32 (?,), got float64 (1, 1)"),
        ("two_inputs", {"a": [[1, 2]], "b": [[1, 2]]}, {}, "input 'a' wants float32 (?, 3), got int64 (1, 2)"),
    ],
)
def test_what_does_not_fit_the_signature(
    client: Client, model: str, inputs: Any, options: dict[str, Any], message: str
) -> None:
    """Wrong names, dtypes and shapes are refused before sending, with model, version, what is wanted and what came."""
    error = _refused(SignatureMismatch, client, model, inputs, **options)
    assert message in str(error)
    assert f"{model} version " in str(error)
    assert (error.code, error.attempts) == (3, 0)


def test_values_that_only_the_model_can_refuse(client: Client) -> None:
    """What passes the signature and fails in the graph is the server's InvalidArgument."""
    error = _refused(
        InvalidArgument, client, "two_inputs", {"a": np.ones((2, 3), np.float32), "b": np.ones((5, 3), np.float32)}
    )
    assert error.attempts == 1


def test_a_slow_model_runs_into_the_deadline(client: Client) -> None:
    """A call whose model takes longer than allowed is DeadlineExceeded, whoever notices first."""
    client.metadata("slow")
    with pytest.raises(DeadlineExceeded) as caught:
        client.predict("slow", [1.0], timeout=0.05)
    assert caught.value.code == 4


def test_a_model_is_named_by_a_str(client: Client) -> None:
    """Inputs where the model's name should stand are refused before sending, in one line, over each transport."""
    for ask in (lambda: client.multi_inference([{"x": 1}], ["a"]), lambda: client.status(3)):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match=r"a model's name .* comes first, got (list|int)") as caught:
            ask()
        assert caught.value.attempts == 0


def test_a_grpc_client_on_the_rest_port_and_the_other_way_round(server: Any) -> None:
    """The wrong port is an error that names the address, not a hang."""
    for url in (f"grpc://127.0.0.1:{server.rest_port}", f"http://127.0.0.1:{server.grpc_port}"):
        with Client(url, timeout=10) as client, pytest.raises(ApiError, match=url):
            client.status("half_plus_two")

"""Calls that succeed: one suite over REST and gRPC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models import DTYPES
from tfbundle_client import Client, InvalidArgument, State, Unimplemented

#: The JSON API has no form for these.
_GRPC_ONLY = {"float16", "bfloat16", "complex64", "complex128", "uint16"}


def test_one_array_in_one_array_out(client: Client) -> None:
    """A model of one input and one output takes an array and gives one, with the version that answered."""
    answer = client.predict("half_plus_two", np.array([1, 2, 5], np.float32))
    assert answer.output.tolist() == [2.5, 3.0, 4.5]
    assert answer["y"] is answer.output
    assert answer.output.dtype == np.float32
    assert (answer.model, answer.version, answer.signature) == ("half_plus_two", 123, "serving_default")
    assert answer.latency_s > 0


def test_named_inputs_and_several_outputs(client: Client) -> None:
    """A model of several inputs takes a mapping, several outputs are taken by name."""
    a, b = np.array([[1, 2, 3]], np.float32), [[10, 20, 30]]
    answer = client.predict("two_inputs", {"a": a, "b": b})
    assert list(answer) == ["product", "sum"]
    assert answer["sum"].tolist() == [[11, 22, 33]]
    assert answer["product"].tolist() == [[14]]
    with pytest.raises(InvalidArgument, match=r"2 outputs \(product, sum\): take one by name"):
        _ = answer.output
    with pytest.raises(KeyError, match="no output 'nope'; it has product, sum"):
        _ = answer["nope"]


def test_signature_and_outputs_are_chosen(client: Client) -> None:
    """`signature` picks the callable, `outputs` the outputs and their order."""
    inputs = {"a": [[1, 1, 1]], "b": [[2, 2, 2]]}
    assert list(client.predict("two_inputs", inputs, signature="only_sum")) == ["sum"]
    assert list(client.predict("two_inputs", inputs, outputs="product")) == ["product"]
    assert list(client.predict("two_inputs", inputs, outputs=["sum", "product", "sum"])) == ["sum", "product"]


def test_version_is_asked_for(client: Client) -> None:
    """A version can be named, and is the one that answers."""
    assert client.predict("half_plus_two", [1.0], version=123).version == 123


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", [each for each in DTYPES if each not in _GRPC_ONLY])
def test_every_json_dtype_comes_back(client: Client, name: str, rows: int) -> None:
    """Values at the ends of each dtype's range survive both ways over both transports."""
    sent = _extremes(name)[:rows]
    answer = client.predict("identities", sent, signature=name)
    assert answer["y"].dtype == sent.dtype
    assert answer["y"].shape == (rows, 2)
    assert answer["y"].tolist() == sent.tolist()


def test_empty_batches(client: Client) -> None:
    """No rows in, no rows out; over REST, where JSON cannot say so in two dimensions, by the signature alone."""
    assert client.predict("half_plus_two", []).output.shape == (0,)
    answer = client.predict("identities", np.empty((0, 2), np.float32), signature="float32")
    assert answer["y"].shape == (0, 2)
    assert answer["y"].dtype == np.float32
    answer = client.predict("two_inputs", {"a": np.empty((0, 3), np.float32), "b": np.empty((0, 3), np.float32)})
    assert {name: array.shape for name, array in answer.outputs.items()} == {"sum": (0, 3), "product": (0, 1)}
    assert answer.version == 1


def _extremes(name: str) -> Any:
    if name == "string":
        flat = np.empty(6, object)
        flat[:] = [b"", b"plain", "größe".encode(), b'"quoted"\n', b"\\", b"a" * 500]
        return flat.reshape(3, 2)
    if name == "bool":
        return np.array([[True, False], [False, True], [True, True]])
    dtype = np.dtype(name)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([[limits.min, limits.max], [0, 1], [limits.max - 1, limits.min + 1]], dtype)
    limits_f = np.finfo(dtype)
    return np.array([[0.1, limits_f.max], [-0.0, limits_f.tiny], [1 / 3, 1e10]], dtype)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_not_a_number_and_infinity_travel(client: Client, name: str) -> None:
    """NaN and both infinities come back, which JSON proper has no word for."""
    sent = np.array([[np.nan, np.inf], [-np.inf, 1]], name)
    np.testing.assert_array_equal(client.predict("identities", sent, signature=name)["y"], sent)


@pytest.mark.parametrize("name", sorted(_GRPC_ONLY))
def test_dtypes_that_json_lacks(client: Client, name: str) -> None:
    """Over gRPC they travel; over REST they are refused before sending, with the way out named."""
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    if client.transport == "gRPC":
        assert client.predict("identities", [[1, 2]], signature=name)["y"].tolist() == [[1, 2]]
    else:
        with pytest.raises(Unimplemented, match="gRPC"):
            client.predict("identities", [[1, 2]], signature=name)


def test_strings_are_bytes(client: Client) -> None:
    """Text goes in as str or bytes and comes out as bytes, numbers beside it as numbers."""
    answer = client.predict("strings", ["abc", b"x"])
    assert answer["upper"].tolist() == [b"ABC", b"X"]
    assert answer["length"].tolist() == [3, 1]
    assert answer["length"].dtype == np.int32


def test_arbitrary_bytes_in_outputs_named_bytes(client: Client) -> None:
    """Bytes that are no text survive in an output whose name ends in _bytes."""
    sent = np.empty(2, object)
    sent[:] = [b"\xff\x00\xfe", b"\0"]
    assert client.predict("strings", sent)["raw_bytes"].tolist() == sent.tolist()


def test_outputs_are_read_only(client: Client) -> None:
    """Arrays of both transports refuse writing, because those of gRPC look into the message."""
    answer = client.predict("half_plus_two", [1.0])
    with pytest.raises(ValueError, match="read-only"):
        answer.output[0] = 0


def test_a_large_batch(client: Client) -> None:
    """More than the 4 MiB that gRPC allows by default goes both ways."""
    sent = np.linspace(-1, 1, 1_500_000, dtype=np.float32)
    np.testing.assert_array_equal(client.predict("half_plus_two", sent).output, np.float32(0.5) * sent + 2)


def test_metadata_tells_names_dtypes_and_shapes(client: Client) -> None:
    """Signatures are the same over both transports."""
    metadata = client.metadata("two_inputs")
    assert (metadata.name, metadata.version) == ("two_inputs", 1)
    assert sorted(metadata.callable_signatures) == ["only_sum", "serving_default"]
    signature = metadata.signatures["serving_default"]
    assert {name: str(spec) for name, spec in signature.inputs.items()} == {
        "a": "float32 (?, 3)",
        "b": "float32 (?, 3)",
    }
    assert {name: str(spec) for name, spec in signature.outputs.items()} == {
        "sum": "float32 (?, 3)",
        "product": "float32 (?, 1)",
    }


def test_status_tells_states(client: Client) -> None:
    """The status lists the versions with their states."""
    statuses = client.status("half_plus_two")
    assert [(each.version, each.state, each.is_available) for each in statuses] == [(123, State.AVAILABLE, True)]
    assert client.status("half_plus_two", version=123) == statuses


def test_waiting_for_what_is_there(client: Client) -> None:
    """wait_until_available returns at once with the version that answers."""
    assert client.wait_until_available("half_plus_two", timeout=10).version == 123
    assert client.wait_until_available("half_plus_two", version=123, timeout=10).version == 123


def test_headers_and_session_of_the_caller(url: str) -> None:
    """Extra headers are accepted, and a session that was given does the work and stays open."""
    import requests

    with Client(url, headers={"X-Caller": "test"}) as client:
        assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]
    if url.startswith("http"):
        with requests.Session() as session:
            session.headers["X-Caller"] = "test"
            for _ in range(2):
                with Client(url, session=session) as client:
                    assert client.predict("half_plus_two", [1.0]).output.tolist() == [2.5]

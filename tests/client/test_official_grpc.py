"""The client against TensorFlow Serving's own messages and service classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from tests.models import DTYPES
from tfbundle_client import Client, NotFound, State


@pytest.fixture
def client(official_server: str) -> Iterator[Client]:
    """A client of the official server."""
    with Client(official_server) as client:
        yield client


def _example(name: str, shape: tuple[int, ...]) -> Any:
    """Values that show a lost sign, byte order or NUL."""
    size = int(np.prod(shape))
    if name == "string":
        strings = [b"", b"a\0b\0", "größe".encode(), b"\xff\xfe", b"x" * 300]
        flat = np.empty(size, object)
        flat[:] = [strings[place % len(strings)] for place in range(size)]
        return flat.reshape(shape)
    if name == "bool":
        return (np.arange(size) % 3 == 0).reshape(shape)
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    values = np.arange(size)
    if dtype.kind == "i":
        values = values * np.iinfo(dtype).max // 5 * (-1) ** values
    elif dtype.kind == "u":
        return (np.arange(size, dtype=dtype) * (np.iinfo(dtype).max // 5)).reshape(shape)
    flat = values.astype(dtype) if dtype.kind != "c" else (values / 3 - 1j * values).astype(dtype)
    return flat.reshape(shape)


@pytest.mark.parametrize("shape", [(3, 2), (), (0, 4), (1,), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("form", ["", "_fields"], ids=["content", "typed values"])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_as_it_went(client: Client, name: str, form: str, shape: tuple[int, ...]) -> None:
    """A tensor of each dtype and shape survives both ways, whichever field the reply carries its values in."""
    sent = _example(name, shape)
    answer = client.predict("identities", {"x": sent}, signature=name + form)
    assert answer["y"].shape == shape
    assert answer["y"].dtype == sent.dtype
    assert answer["y"].tobytes() == sent.tobytes() if name != "string" else answer["y"].tolist() == sent.tolist()
    assert answer.version == 7


def test_metadata_is_read(client: Client) -> None:
    """GetModelMetadata of the official classes gives version, signatures, dtypes and shapes."""
    metadata = client.metadata("identities")
    assert metadata.version == 7
    assert metadata.signatures["float32"].inputs["x"].dtype.enum_name == "DT_FLOAT"
    assert metadata.signatures["string"].outputs["y"].shape is None


def test_status_is_read(client: Client) -> None:
    """GetModelStatus of the official classes gives the versions, the highest first."""
    assert [(each.version, each.state) for each in client.status("identities")] == [
        (8, State.LOADING),
        (7, State.AVAILABLE),
    ]


def test_more_than_4_mib_travels_both_ways(client: Client) -> None:
    """The default limit of gRPC, 4 MiB, does not apply."""
    sent = np.arange(3_000_000, dtype=np.float32)
    assert np.array_equal(client.predict("identities", sent, signature="float32")["y"], sent)


def test_not_found_is_not_found(client: Client) -> None:
    """A NOT_FOUND status of the official server becomes NotFound with the model's name."""
    with pytest.raises(NotFound, match=r"Latest\(nope\)") as caught:
        client.predict("nope", [1.0])
    assert caught.value.model == "nope"


def test_a_channel_of_the_caller_is_used_and_stays_open(official_server: str) -> None:
    """A given channel carries the calls and is not closed with the client."""
    with grpc.insecure_channel(official_server.removeprefix("grpc://")) as channel:
        with Client(official_server, channel=channel) as client:
            assert client.predict("identities", [1.5], signature="float32")["y"].tolist() == [1.5]
        with Client(official_server, channel=channel) as client:
            assert client.status("identities")
